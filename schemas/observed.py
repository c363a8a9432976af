"""What the journey flow publishes about results: the body of `airside.outcome.observed.v1`.

Learners read it: what came of a notification, of which arm, and what it is put down to as far as
was known when it was published. Corrections by later touches are in the table `outcomes`.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field, StringConstraints

from schemas.events.body import Strict
from schemas.events.fields import (
    AmountMinor,
    Channel,
    Count,
    Currency,
    Identifier,
    Instant,
    Label,
    Probability,
    Pseudonym,
    Seconds,
)

OUTCOMES_TOPIC: Final = "ntf.outcomes.v1"
OBSERVED: Final = "airside.outcome.observed.v1"

Kind = Literal[
    "opened",
    "opened_by_machine",
    "clicked",
    "clicked_by_machine",
    "cta",
    "replied",
    "unsubscribed",
    "complained",
    "page_viewed",
    "accepted",
    "declined",
    "registered",
    "payment_received",
    "refunded",
    "converted",
    "timed_out",
]
OutcomeId = Annotated[str, StringConstraints(max_length=16, pattern=r"^[0-9a-f]{16}$")]


class TouchedBy(Strict):
    """A touch that a result is put down to."""

    journey_id: Identifier
    notification_id: Identifier
    campaign: Label
    at: Instant


class ObservedOutcome(Strict):
    """What came of a notification. `touches` counts those within `window_s` before it.

    `timed_out` says that nothing came of it in time; `waited_s` how long that was.
    """

    outcome_id: OutcomeId
    kind: Kind
    at: Instant
    journey_id: Identifier
    notification_id: Identifier
    subject: Pseudonym
    campaign: Label
    tenant: Label
    channel: Channel | None = None
    arm: Label | None = None
    propensity: Probability | None = None
    amount_minor: AmountMinor | None = None
    currency: Currency | None = None
    waited_s: Seconds | None = None
    touches: Count = 0
    window_s: Annotated[int, Field(ge=60, le=31_536_000)] | None = None
    last_touch: TouchedBy | None = None
    first_touch: TouchedBy | None = None
