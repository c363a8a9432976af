"""The hours of the coming week on a person's clock, and when each of them is."""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]

SLOTS: Final = 168
HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS
QUARTER_MS: Final = 900_000
NEVER: Final = -1

_QUARTERS: Final = SLOTS * 4
_A_DAY: Final = 96
_MONDAY_HOURS: Final = 72  # 1970-01-01 was a Thursday; the week starts on Monday


class Week(NamedTuple):
    """When each hour of the week comes first from a moment on, and when it is over.

    Shapes: (168,), Monday 00:00 first. An hour that the clocks skip is `NEVER`; one that they
    repeat is as long as both together.
    Units: milliseconds since 1970 UTC, the end excluded.
    """

    starts: Ints
    ends: Ints


@lru_cache(maxsize=65_536)
def _offset_ms(zone: str, quarter: int) -> int:
    """No zone changes its clock within a quarter of an hour."""
    offset = datetime.fromtimestamp(quarter * 900, ZoneInfo(zone)).utcoffset()
    return int(offset.total_seconds() * 1_000) if offset is not None else 0


def _offsets_ms(zone: str, first: int, count: int) -> Ints:
    """The offsets of neighbouring quarters; looked up one by one only on days of a change."""
    found = np.empty(count, np.int64)
    for start in range(0, count, _A_DAY):
        end = min(start + _A_DAY, count)
        before, after = _offset_ms(zone, first + start), _offset_ms(zone, first + end)
        found[start:end] = before
        if before != after:
            found[start:end] = [_offset_ms(zone, first + n) for n in range(start, end)]
    return found


@lru_cache(maxsize=4_096)
def week_from(zone: str, quarter: int) -> Week:
    """The 168 hours from a quarter of an hour on, by the hour of the week of a zone.

    >>> week = week_from("Europe/Berlin", 1_767_571_200_000 // QUARTER_MS)  # Monday 01:00 there
    >>> [(int(week.starts[slot]) - 1_767_571_200_000) // HOUR_MS for slot in (1, 2, 0)]
    [0, 1, 167]
    """
    quarters = np.arange(quarter, quarter + _QUARTERS)
    local = quarters * QUARTER_MS + _offsets_ms(zone, quarter, _QUARTERS)
    slots = (local // HOUR_MS + _MONDAY_HOURS) % SLOTS
    begins = np.flatnonzero(np.diff(slots, prepend=-1))
    lasts = np.append(begins[1:], _QUARTERS)
    starts = np.full(SLOTS, NEVER, np.int64)
    ends = np.full(SLOTS, NEVER, np.int64)
    # From the last to the first, so that what stays is an hour's first time.
    starts[slots[begins[::-1]]] = quarters[begins[::-1]] * QUARTER_MS
    ends[slots[begins[::-1]]] = (quarter + lasts[::-1]) * QUARTER_MS
    return Week(starts, ends)


def slot_at(zone: str, at_ms: int) -> int:
    """The hour of the week of a moment on a zone's clock.

    >>> slot_at("Asia/Kolkata", 1_767_571_200_000)  # Monday 05:30 there
    5
    """
    local = at_ms + _offset_ms(zone, at_ms // QUARTER_MS)
    return int(local // HOUR_MS + _MONDAY_HOURS) % SLOTS
