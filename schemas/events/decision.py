"""Decision: when a notification is to be sent, and the odds at which that time was drawn."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field

from schemas.events.body import EventBody, Strict
from schemas.events.fields import Channels, Count, Identifier, Instant, Label, Probability

TOPIC: Final = "ntf.decisions.v1"

DecisionArm = Literal["optimised", "holdout", "immediate"]
DecisionReason = Literal[
    "collecting",
    "effect_found",
    "null_accepted",
    "slots_differ",
    "clusters_exist",
    "holdout",
    "priority",
    "purpose",
    "zone_unknown",
    "no_time_allowed",
]
HourOfWeek = Annotated[int, Field(ge=0, le=167)]


class Alternative(Strict):
    """Another time that could have been drawn, and its odds."""

    send_at: Instant
    slot: HourOfWeek
    propensity: Probability


class DecisionMade(EventBody):
    """A sender is told when to send.

    `slot` is the hour of the week on the person's clock, Monday 00:00 first; absent where no
    time was drawn. `propensity` is the chance at which this slot was drawn among `allowed` ones.
    """

    decision_id: Identifier
    request_id: Identifier
    send_at: Instant
    arm: DecisionArm
    reason: DecisionReason
    propensity: Probability
    allowed: Count
    model: Label
    model_version: Count
    policy_version: Count
    channels: Channels = ()
    slot: HourOfWeek | None = None
    latest_at: Instant | None = None
    alternatives: Annotated[tuple[Alternative, ...], Field(max_length=8, fail_fast=True)] = ()


MODELS: Final[dict[str, type[EventBody]]] = {"ntf.decision.made.v1": DecisionMade}
