"""What the journeys of a lane are kept by."""

from __future__ import annotations

import msgspec


class JourneyRules(msgspec.Struct, frozen=True):
    """The bounds of a lane's journeys, and the spans of event time that decide.

    Units: milliseconds. A journey without an end times out after `timeout_ms` of silence; any is
    forgotten after `forget_ms` of silence, and known as forgotten for `tombstone_ms` more.
    `lateness_ms` is how far behind its partition the gate lets an event be.
    Shapes: `journeys_max` in one lane, `moments_max` in one journey, `touches_max` and
    `outcomes_max` of one person.
    """

    timeout_ms: int
    forget_ms: int
    tombstone_ms: int
    lateness_ms: int
    journeys_max: int
    moments_max: int
    window_ms: int
    touches_max: int
    outcomes_max: int
