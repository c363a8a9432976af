"""Delivery: what a sender and its provider report about one message on one channel."""

from __future__ import annotations

from typing import Final, Literal

from schemas.events.body import EventBody
from schemas.events.fields import Attempt, Channel, Instant, Label, ProviderId

TOPIC: Final = "ntf.delivery.v1"

DeferredReason = Literal[
    "provider_busy", "greylisted", "mailbox_full", "device_offline", "rate_limit", "timeout"
]
BouncedReason = Literal[
    "no_such_recipient",
    "no_such_domain",
    "mailbox_full",
    "blocked",
    "content_refused",
    "too_large",
    "policy",
    "other",
]
FailedReason = Literal[
    "provider_error",
    "provider_limit",
    "timeout",
    "not_authorised",
    "token_invalid",
    "content_refused",
    "attempts_exhausted",
    "other",
]
DroppedReason = Literal["expired", "canceled", "suppression_list", "duplicate", "provider_policy"]
FailoverReason = Literal["provider_error", "provider_limit", "timeout", "undelivered", "bounced"]


class DeliveryBody(EventBody):
    """One message on one channel at one provider; the arm is repeated to save a join."""

    channel: Channel
    provider: Label
    attempt: Attempt | None = None
    message_id: ProviderId | None = None
    provider_event_id: ProviderId | None = None
    arm: Label | None = None


class Queued(DeliveryBody):
    """The message waits for its sender."""


class Attempted(DeliveryBody):
    """The sender tried, and knows whether trying again makes sense."""

    attempt: Attempt
    attempts_max: Attempt
    retryable: bool


class Sent(DeliveryBody):
    """The provider took the message and named it."""

    message_id: ProviderId


class Deferred(DeliveryBody):
    """The provider asks for patience, for a reason of the closed list."""

    reason: DeferredReason
    until: Instant | None = None


class Delivered(DeliveryBody):
    """The message reached the device or the mailbox."""


class Bounced(DeliveryBody):
    """The message came back: for good (hard) or for now (soft)."""

    bounce: Literal["hard", "soft"]
    reason: BouncedReason
    code: Label | None = None


class Failed(DeliveryBody):
    """The message was given up, for a reason of the closed list."""

    reason: FailedReason
    code: Label | None = None


class Dropped(DeliveryBody):
    """The sender or the provider threw the message away on purpose."""

    reason: DroppedReason


class Failover(DeliveryBody):
    """The message leaves this channel and provider for another pair."""

    to_channel: Channel
    to_provider: Label
    reason: FailoverReason


MODELS: Final[dict[str, type[EventBody]]] = {
    "ntf.delivery.queued.v1": Queued,
    "ntf.delivery.attempted.v1": Attempted,
    "ntf.delivery.sent.v1": Sent,
    "ntf.delivery.deferred.v1": Deferred,
    "ntf.delivery.delivered.v1": Delivered,
    "ntf.delivery.bounced.v1": Bounced,
    "ntf.delivery.failed.v1": Failed,
    "ntf.delivery.dropped.v1": Dropped,
    "ntf.delivery.failover.v1": Failover,
}
