"""Move the clock of the target, and of nothing else: every look at the time of day that is ours.

Kafka's client and the engine look by themselves and are not moved. Libraries that move a whole
process exist, but Kafka's client waits without end under the one that was tried, which it does
not under a clock that was really set. What the engine does then has a test of its own.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

VARIABLE: Final = "TEST_AIRSIDE_CLOCK"
_NS: Final = 1_000_000_000


class MovedClock:
    """How far the target's clock is ahead of the machine's. State: a file that the target reads."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "clock"
        self.seconds = 0
        self.move(0)

    def move(self, seconds: int) -> None:
        """Set how far it is ahead; the next look at it tells so."""
        self.seconds = seconds
        fresh = self.file.with_suffix(".new")
        fresh.write_text(str(seconds))
        fresh.replace(self.file)


def carry_out(file: Path) -> None:
    """Let this process see the time that the file says."""
    true_ns = time.time_ns

    def time_ns() -> int:
        return true_ns() + int(file.read_text()) * _NS

    def time_s() -> float:
        return time_ns() / _NS

    time.time_ns = time_ns
    time.time = time_s


def carry_out_as_told() -> None:
    """Do so if the environment names the file."""
    if os.environ.get(VARIABLE):
        carry_out(Path(os.environ[VARIABLE]))
