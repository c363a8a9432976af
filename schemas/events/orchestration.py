"""Orchestration: whether, when, how and in which variant a journey's message is sent."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field

from schemas.events.body import EventBody, Strict
from schemas.events.fields import (
    Channel,
    Channels,
    Count,
    Identifier,
    Instant,
    Label,
    Locale,
    Probability,
    Score,
)

TOPIC: Final = "ntf.requests.v1"

SuppressedReason = Literal[
    "opted_out",
    "quiet_hours",
    "frequency_cap",
    "rate_limit",
    "no_channel",
    "no_consent",
    "holdout",
    "filtered",
    "duplicate",
    "low_score",
    "expired",
]
RenderFailedReason = Literal[
    "template_missing", "variable_missing", "locale_missing", "template_error", "too_large"
]
DelayedReason = Literal[
    "quiet_hours", "frequency_cap", "rate_limit", "best_time", "send_after", "digest"
]
CanceledReason = Literal[
    "requested", "superseded", "goal_reached", "campaign_stopped", "expired", "erased"
]


class ChannelScore(Strict):
    """How good one channel looked when the choice was made, 0 to 1."""

    channel: Channel
    score: Score


class PreferenceChecked(EventBody):
    """The recipient's preferences were read; these channels are left."""

    channels: Channels


class Suppressed(EventBody):
    """The journey ends without a message, for a reason of the closed list."""

    reason: SuppressedReason
    channel: Channel | None = None


class VariantAssigned(EventBody):
    """The journey drew an arm of an experiment, with the odds it was drawn at."""

    experiment: Label
    arm: Label
    propensity: Probability


class ChannelSelected(EventBody):
    """One channel was chosen; the scores of those that were compared are kept."""

    channel: Channel
    scores: Annotated[tuple[ChannelScore, ...], Field(max_length=8, fail_fast=True)] = ()
    arm: Label | None = None


class Rendered(EventBody):
    """The message was made from its template."""

    channel: Channel
    template: Label
    locale: Locale | None = None
    arm: Label | None = None


class RenderFailed(EventBody):
    """The message could not be made, for a reason of the closed list."""

    channel: Channel
    template: Label
    reason: RenderFailedReason
    arm: Label | None = None


class DigestOpened(EventBody):
    """A digest started to collect notifications until a time."""

    digest_id: Identifier
    until: Instant


class DigestMerged(EventBody):
    """A digest closed and became one message."""

    digest_id: Identifier
    size: Count


class Delayed(EventBody):
    """The message waits until a time, for a reason of the closed list."""

    until: Instant
    reason: DelayedReason
    channel: Channel | None = None


class Scheduled(EventBody):
    """The message has a time at which it will be sent."""

    send_at: Instant
    channel: Channel | None = None
    arm: Label | None = None


class Canceled(EventBody):
    """The message will not be sent, for a reason of the closed list."""

    reason: CanceledReason
    channel: Channel | None = None


MODELS: Final[dict[str, type[EventBody]]] = {
    "ntf.orchestration.preference_checked.v1": PreferenceChecked,
    "ntf.orchestration.suppressed.v1": Suppressed,
    "ntf.orchestration.variant_assigned.v1": VariantAssigned,
    "ntf.orchestration.channel_selected.v1": ChannelSelected,
    "ntf.orchestration.rendered.v1": Rendered,
    "ntf.orchestration.render_failed.v1": RenderFailed,
    "ntf.orchestration.digest_opened.v1": DigestOpened,
    "ntf.orchestration.digest_merged.v1": DigestMerged,
    "ntf.orchestration.delayed.v1": Delayed,
    "ntf.orchestration.scheduled.v1": Scheduled,
    "ntf.orchestration.canceled.v1": Canceled,
}
