"""Creation: a notification is asked for, answered, and split into one journey per recipient."""

from __future__ import annotations

from typing import ClassVar, Final, Literal

from schemas.events.body import EventBody, Strict
from schemas.events.fields import (
    Count,
    Identifier,
    Instant,
    Label,
    Priority,
    Pseudonym,
    Seconds,
    SomeChannels,
)

TOPIC: Final = "ntf.requests.v1"

RejectedReason = Literal[
    "unknown_template",
    "unknown_campaign",
    "unknown_recipient",
    "empty_audience",
    "no_channel_allowed",
    "expired",
    "over_quota",
    "not_permitted",
]


class Goal(Strict):
    """What the notification is for: the metric to move, and how long it may take."""

    metric: Label
    window_s: Seconds


class RequestCreated(EventBody):
    """A producer asks for a notification, to one recipient or to an audience."""

    exactly_one_of: ClassVar[tuple[str, ...]] = ("recipient", "audience")

    template: Label
    channels_allowed: SomeChannels
    priority: Priority
    idempotency_key: Identifier
    recipient: Pseudonym | None = None
    audience: Label | None = None
    send_after: Instant | None = None
    expires_at: Instant | None = None
    goal: Goal | None = None


class RequestAccepted(EventBody):
    """The request passed its checks and will be orchestrated."""

    idempotency_key: Identifier


class RequestRejected(EventBody):
    """The request was refused, for a reason of the closed list."""

    idempotency_key: Identifier
    reason: RejectedReason


class RequestDuplicate(EventBody):
    """The request repeats an earlier one and has no effect."""

    idempotency_key: Identifier
    duplicate_of: Identifier


class AudienceResolved(EventBody):
    """The audience of a request became a number of recipients."""

    audience: Label
    size: Count


class JourneyCreated(EventBody):
    """One recipient's way through the notification begins."""

    template: Label
    channels_allowed: SomeChannels
    priority: Priority
    audience: Label | None = None
    send_after: Instant | None = None
    expires_at: Instant | None = None


MODELS: Final[dict[str, type[EventBody]]] = {
    "ntf.request.created.v1": RequestCreated,
    "ntf.request.accepted.v1": RequestAccepted,
    "ntf.request.rejected.v1": RequestRejected,
    "ntf.request.duplicate.v1": RequestDuplicate,
    "ntf.request.audience_resolved.v1": AudienceResolved,
    "ntf.journey.created.v1": JourneyCreated,
}
