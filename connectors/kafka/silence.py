"""See that a client hands nothing out of a partition that has more.

librdkafka 2.16 may take brokers for gone that only started again, and then stop reading for good
what they lead, while all else goes on: seen in 2 of 60 restarts of a single broker.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from connectors.kafka.lane_state import Place

SILENT_S: Final = 30.0
"""A partition that stands for so long before its end, in a lane that rests, will not go on."""


class Silence:
    """Notes which partitions stand before their ends.

    Promise: one is named only if at each look for `SILENT_S` it stood at the same offset, before
    its end of the look. To be looked at only where the lane would take what comes.
    State: an offset and a time for each partition that stands.
    Units: `now_s` of a steady clock.
    """

    def __init__(self) -> None:
        self._standing: dict[Place, tuple[int, float]] = {}

    def look(
        self, ends: Mapping[Place, int], position: Callable[[Place], int], now_s: float
    ) -> Place | None:
        """Compare ends that Kafka told with where the lane is; gives a partition that is silent."""
        before, self._standing = self._standing, {}
        for place, end in ends.items():
            at = position(place)
            if at < end:
                was, since_s = before.get(place, (at, now_s))
                self._standing[place] = (at, since_s if was == at else now_s)
        for place, (_, since_s) in self._standing.items():
            if now_s - since_s >= SILENT_S:
                return place
        return None

    def forget(self) -> None:
        """Begin anew: the lane took nothing for reasons of its own."""
        self._standing = {}
