"""Local time, and when people are awake: the daily rhythm that delivery times can learn."""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache
from math import exp
from typing import Final
from zoneinfo import ZoneInfo

HOUR_MS: Final = 3_600_000
_QUARTER_MS: Final = 900_000

ZONES: Final = (
    ("Europe/Berlin", 16),
    ("Europe/London", 12),
    ("Europe/Lisbon", 4),
    ("America/New_York", 14),
    ("America/Los_Angeles", 8),
    ("America/St_Johns", 2),
    ("America/Sao_Paulo", 8),
    ("America/Santiago", 4),
    ("Africa/Lagos", 6),
    ("Africa/Johannesburg", 4),
    ("Asia/Kolkata", 12),
    ("Asia/Kathmandu", 3),
    ("Asia/Tokyo", 8),
    ("Asia/Singapore", 5),
    ("Australia/Adelaide", 4),
    ("Australia/Sydney", 5),
    ("Australia/Lord_Howe", 1),
    ("Pacific/Auckland", 3),
    ("Pacific/Chatham", 1),
)
"""IANA zones and how many people of a hundred or so live there."""

PEAKS: Final = {"lark": (7.0, 18.0), "day": (12.5, 19.5), "owl": (15.0, 23.0)}
"""The two local hours at which each chronotype answers most."""

_ASLEEP: Final = 0.12


def _near(hour: float, peak: float) -> float:
    gap = abs(hour - peak) % 24
    return exp(-((min(gap, 24 - gap) / 2.5) ** 2))


ENERGY: Final[dict[str, tuple[float, ...]]] = {
    name: tuple(0.04 + sum(_near(hour + 0.5, peak) for peak in peaks) for hour in range(24))
    for name, peaks in PEAKS.items()
}
"""How ready each chronotype is to answer at each local hour, about 0.04 to 1."""


@lru_cache(maxsize=65_536)
def _shift_ms(zone: str, quarter: int) -> int:
    """The offset from UTC in one quarter of an hour: no zone changes its clock within one."""
    offset = datetime.fromtimestamp(quarter * 900, ZoneInfo(zone)).utcoffset()
    return int(offset.total_seconds() * 1_000) if offset is not None else 0


def hour_of_day(zone: str, at_ms: int) -> int:
    """The hour on the clock of a zone, 0 to 23.

    >>> hour_of_day("Asia/Kolkata", 0)
    5
    """
    return (at_ms + _shift_ms(zone, at_ms // _QUARTER_MS)) // HOUR_MS % 24


def wait_until_awake(chronotype: str, hour: int) -> int:
    """Hours until a sleeper looks at the phone again; 0 for one who is awake."""
    energy = ENERGY[chronotype]
    wait = 0
    while energy[(hour + wait) % 24] < _ASLEEP:
        wait += 1
    return wait
