"""Clocks: the one place where the time of day enters."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Tells the time. Units: milliseconds since 1970 UTC; seconds that only go forward."""

    def now_ms(self) -> int:
        """The time of day."""

    def steady_s(self) -> float:
        """Seconds from some start, for spans."""


class SystemClock:
    """The machine's clock."""

    def now_ms(self) -> int:
        """The time of day."""
        return time.time_ns() // 1_000_000

    def steady_s(self) -> float:
        """Seconds from some start, for spans."""
        return time.monotonic()


class ManualClock:
    """A clock for tests: it moves when told."""

    def __init__(self, at_ms: int = 0) -> None:
        self.at_ms = at_ms

    def now_ms(self) -> int:
        """The time of day."""
        return self.at_ms

    def steady_s(self) -> float:
        """Seconds from 1970, by the same hand."""
        return self.at_ms / 1_000

    def move(self, ms: int) -> None:
        """Let time pass."""
        self.at_ms += ms
