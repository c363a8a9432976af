"""Airside with all messages in its consumers' queues before the first one is taken.

What a broker on the same machine needs is then spent before, and cells have the cores alone.
Says `READY` when everything is there, and begins with the next line of standard input.
"""

from __future__ import annotations

import sys
import time
from typing import Any, Final

from connectors.kafka.lane import LanePartition
from connectors.kafka.lanes import LaneSource
from tests.bench.meter import cpu_s, leave, read_task
from tests.bench.systems.airside import Level, run

READY: Final = "READY"
_WAIT_S_MAX: Final = 120.0
_LOOK_S: Final = 0.5
_STILL_S: Final = 0.02
_QUEUE: Final = {"queued.min.messages": 10_000_000, "queued.max.messages.kbytes": 2_000_000}


class AheadSource(LaneSource):
    """Lanes whose consumers may hold everything."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.config |= _QUEUE

    def build_part(
        self, _step_id: str, for_part: str, resume_state: dict[str, Any] | None
    ) -> LanePartition:
        """Open the lane, and wait until its consumer has nothing more to do, and the word."""
        part = super().build_part(_step_id, for_part, resume_state)
        _wait_until_still()
        sys.stdout.write(f"{READY}\n")
        sys.stdout.flush()
        sys.stdin.readline()
        return part


class AheadLevel(Level):
    """A level with these lanes."""

    lanes = AheadSource


def _wait_until_still() -> None:
    """Return when this process computes no more; its consumer's thread is all that does."""
    ends_s = time.monotonic() + _WAIT_S_MAX
    before_s = cpu_s() - 2 * _STILL_S
    while (now_s := cpu_s()) - before_s > _STILL_S:
        if time.monotonic() > ends_s:
            raise TimeoutError
        before_s = now_s
        time.sleep(_LOOK_S)


if __name__ == "__main__":
    run(read_task(), AheadLevel)
    leave()
