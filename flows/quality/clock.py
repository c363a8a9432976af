"""The lane's time, for closing minutes: what the streams have reached, idle ones left out."""

from __future__ import annotations

from typing import Any


class Clock:
    """Event time that every active partition has reached.

    A partition that is `idle_ms` behind the furthest one does not hold the others back: what
    comes from it later corrects rows, but is in no judgement of a closed minute.
    State: the newest event time of each partition.
    """

    def __init__(self, idle_ms: int) -> None:
        self._idle_ms = idle_ms
        self._newest: dict[tuple[str, int], int] = {}

    def see(self, topic: str, partitions: list[int], times_ms: list[int]) -> None:
        """Take a block's events in."""
        for partition, at_ms in zip(partitions, times_ms, strict=True):
            where = (topic, partition)
            if at_ms > self._newest.get(where, 0):
                self._newest[where] = at_ms

    @property
    def reach_ms(self) -> int:
        """What was reached; 0 before the first event."""
        furthest = max(self._newest.values(), default=0)
        return min(
            (at_ms for at_ms in self._newest.values() if at_ms >= furthest - self._idle_ms),
            default=0,
        )

    def dump(self) -> list[Any]:
        """A copy, for a snapshot."""
        return [[*where, at_ms] for where, at_ms in self._newest.items()]

    def load(self, dumped: list[Any]) -> None:
        """Take back what `dump` gave."""
        self._newest = {(topic, partition): at_ms for topic, partition, at_ms in dumped}
