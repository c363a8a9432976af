"""Outcome: what the notification led to, in the product's own terms and in money."""

from __future__ import annotations

from typing import Final, Literal

from schemas.events.body import EventBody
from schemas.events.fields import AmountMinor, Channel, Count, Currency, Label, ProviderId, Seconds

TOPIC: Final = "ntf.engagement.v1"

DeclinedReason = Literal["not_interested", "too_expensive", "not_now", "already_has", "other"]
RefundedReason = Literal[
    "customer_request", "not_delivered", "duplicate", "fraud", "chargeback", "other"
]
WaitingFor = Literal["request", "orchestration", "delivery", "engagement", "outcome"]


class OutcomeBody(EventBody):
    """A result of a journey; the channel is the last one that touched the person."""

    channel: Channel | None = None
    arm: Label | None = None
    source_system: Label | None = None


class PageViewed(OutcomeBody):
    """The person looked at a page that the message points to."""

    page_id: Label


class Accepted(OutcomeBody):
    """The person took the offer."""

    offer_id: Label | None = None


class Declined(OutcomeBody):
    """The person turned the offer down."""

    offer_id: Label | None = None
    reason: DeclinedReason | None = None


class Registered(OutcomeBody):
    """The person signed up."""


class PaymentReceived(OutcomeBody):
    """Money came in, in minor units of its currency."""

    amount_minor: AmountMinor
    currency: Currency
    payment_id: ProviderId | None = None


class Refunded(OutcomeBody):
    """Money went back, in minor units of its currency."""

    amount_minor: AmountMinor
    currency: Currency
    reason: RefundedReason
    payment_id: ProviderId | None = None


class Converted(OutcomeBody):
    """The journey reached its goal; derived from the outcomes before it."""

    metric: Label
    after_s: Seconds | None = None


class JourneyCompleted(OutcomeBody):
    """The journey is over and nothing more is expected; derived."""

    steps: Count
    duration_s: Seconds | None = None


class JourneyTimedOut(OutcomeBody):
    """The journey waited too long for its next stage; derived."""

    waiting_for: WaitingFor
    waited_s: Seconds


MODELS: Final[dict[str, type[EventBody]]] = {
    "ntf.outcome.page_viewed.v1": PageViewed,
    "ntf.outcome.accepted.v1": Accepted,
    "ntf.outcome.declined.v1": Declined,
    "ntf.outcome.registered.v1": Registered,
    "ntf.outcome.payment_received.v1": PaymentReceived,
    "ntf.outcome.refunded.v1": Refunded,
    "ntf.outcome.converted.v1": Converted,
    "ntf.outcome.journey_completed.v1": JourneyCompleted,
    "ntf.outcome.journey_timed_out.v1": JourneyTimedOut,
}
