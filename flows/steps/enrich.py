"""Join events with what the person told us: a table of profiles, the latest of each."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import numpy as np

from schemas.few import are_few
from schemas.tickets import Numbers

_INTERNED_MAX = 4_096
_HOUR_MS = 3_600_000
_QUARTER_S = 900  # zones change their offset on a quarter of an hour
_HOURS_A_WEEK = 168
_MONDAY_OFFSET_HOURS = 72  # 1970-01-01 was a Thursday; the week starts on Monday


class Profile(msgspec.Struct, frozen=True, gc=False):
    """What steps need of a profile. Shapes: `granted` are the purposes that were consented to."""

    zone: str
    granted: frozenset[str]


class ProfileTable:
    """The latest profile of every subject of a lane.

    State: one entry a subject; those that say the same share one, as far as a bounded cache
    remembers. Rebuilt from the compacted topic at every start.
    """

    def __init__(self) -> None:
        self._profiles: dict[str, Profile] = {}
        self._interned: dict[Profile, Profile] = {}

    def __len__(self) -> int:
        return len(self._profiles)

    def hold(self, body: Any) -> None:
        """Take a profile event's body as the latest word of its subject."""
        granted = frozenset(purpose for purpose, yes in body.consent.items() if yes)
        profile = Profile(body.zone, granted)
        if len(self._interned) >= _INTERNED_MAX:
            self._interned.clear()
        self._profiles[body.subject] = self._interned.setdefault(profile, profile)

    def forget(self, subject: str) -> None:
        """Take a tombstone."""
        self._profiles.pop(subject, None)

    def get(self, subject: str) -> Profile | None:
        """The latest profile of a subject, if one is known."""
        return self._profiles.get(subject)

    def get_all(self, subjects: Sequence[str]) -> list[Profile | None]:
        """The latest profile of each of these subjects, where one is known."""
        if not self._profiles:
            return [None] * len(subjects)
        return list(map(self._profiles.get, subjects))


@lru_cache(maxsize=65_536)
def _offset_hours(zone: str, quarter: int) -> float:
    moment = datetime.fromtimestamp(quarter * _QUARTER_S, ZoneInfo(zone))
    offset = moment.utcoffset()
    return offset.total_seconds() / 3_600 if offset is not None else 0.0


def hour_of_week(zone: str, at_ms: int) -> int:
    """The local hour of the week of a moment.

    Shapes: 0 to 167, Monday 00:00 first, on the clock of the zone, with its summer time.

    >>> hour_of_week("Europe/Berlin", 1_767_571_200_000)  # Monday 2026-01-05 00:00 UTC
    1
    """
    local = at_ms / _HOUR_MS + _offset_hours(zone, at_ms // 1_000 // _QUARTER_S)
    return int(local + _MONDAY_OFFSET_HOURS) % _HOURS_A_WEEK


def hours_of_week(zones: Sequence[str], times_ms: Numbers, *, unknown: int) -> Numbers:
    """The local hour of each moment in its zone; `unknown` where the zone is empty."""
    if are_few(zones):
        pairs = zip(zones, times_ms.tolist(), strict=True)
        return np.array(
            [hour_of_week(zone, at_ms) if zone else unknown for zone, at_ms in pairs], np.int64
        )
    numbers = {zone: number for number, zone in enumerate(dict.fromkeys(zones))}
    codes = np.fromiter(map(numbers.__getitem__, zones), np.int64, len(zones))
    hours: Numbers = np.full(len(zones), unknown, np.int64)
    for zone, number in numbers.items():
        if zone:
            mine = codes == number
            times = times_ms[mine]
            quarters, back = np.unique(times // 1_000 // _QUARTER_S, return_inverse=True)
            offsets = np.array([_offset_hours(zone, quarter) for quarter in quarters.tolist()])
            local = times / _HOUR_MS + offsets[back]
            hours[mine] = (local + _MONDAY_OFFSET_HOURS).astype(np.int64) % _HOURS_A_WEEK
    return hours
