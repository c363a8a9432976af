"""Which hours of the coming week a request may be sent in, and when exactly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from flows.timing.ask import Ask
from flows.timing.calendar import HOUR_MS, NEVER, QUARTER_MS, SLOTS, Ints, week_from
from flows.timing.people import PeopleTable
from flows.timing.plans import Caps, Plans

Bools = npt.NDArray[np.bool_]


class Limits(msgspec.Struct, frozen=True):
    """What limits a time besides the request itself.

    Units: quiet hours are local hours of the day, from the first up to the second excluded, over
    midnight where it is the smaller one; equal ones are no quiet hours. `horizon_h` is how far a
    time may lie ahead.
    """

    quiet_from: int
    quiet_until: int
    horizon_h: int
    cap_a_day: int
    cap_a_channel_day: int
    gap_ms: int


class Allowed(NamedTuple):
    """Shapes: (n, 168) each, Monday 00:00 first. Units: `at_ms` since 1970 UTC, where allowed."""

    slots: Bools
    at_ms: Ints


def quiet_hours(first: int, end: int) -> Bools:
    """The quiet ones of 24 hours.

    >>> [int(hour) for hour in np.flatnonzero(quiet_hours(22, 2))]
    [0, 1, 22, 23]
    """
    hours = np.arange(24)
    if first <= end:
        return (hours >= first) & (hours < end)
    return (hours >= first) | (hours < end)


def allowed_slots(
    asks: Sequence[Ask], people: PeopleTable, plans: Plans, limits: Limits
) -> Allowed:
    """The hours in which each request may be sent; a time within one is its first moment left.

    An hour that a person asked for is never a quiet one for them. A deadline counts to the
    millisecond; a quiet hour by the person's clock, whatever the clocks do that week.
    Shapes: every request has a zone.
    """
    weeks = [week_from(ask.zone, ask.earliest_ms // QUARTER_MS) for ask in asks]
    starts = np.stack([week.starts for week in weeks])
    ends = np.stack([week.ends for week in weeks])
    earliest = np.array([ask.earliest_ms for ask in asks], np.int64)[:, None]
    horizon = earliest + limits.horizon_h * HOUR_MS - 1
    deadline = np.array([ask.latest_ms or np.iinfo(np.int64).max for ask in asks], np.int64)
    at_ms = np.maximum(starts, earliest)
    slots = (starts != NEVER) & (at_ms < ends)
    slots &= at_ms <= np.minimum(horizon, deadline[:, None])
    slots &= ~_quiet(asks, people, limits)
    caps = Caps(person=limits.cap_a_day, channel=limits.cap_a_channel_day, gap_ms=limits.gap_ms)
    for row, ask in enumerate(asks):
        known = plans.of(ask.subject)
        if known:
            slots[row] &= caps.free(at_ms[row], known, ask.channels)
    return Allowed(slots, at_ms)


def _quiet(asks: Sequence[Ask], people: PeopleTable, limits: Limits) -> Bools:
    common = quiet_hours(limits.quiet_from, limits.quiet_until)
    found = np.tile(common, (len(asks), SLOTS // 24))
    for row, ask in enumerate(asks):
        person = people.get(ask.subject)
        if person is not None and person.hours:
            own = common.copy()
            own[list(person.hours)] = False
            found[row] = np.tile(own, SLOTS // 24)
    return found
