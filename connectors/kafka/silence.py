"""See that a client hands nothing out of a partition that has more.

librdkafka 2.16 may take brokers for gone that only started again, and then stop reading for good
what they lead, while all else goes on: seen in 2 of 60 restarts of a single broker.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from connectors.kafka.lane_state import Place

SILENT_S: Final = 30.0
"""A partition that stands for so long before its end, in a lane that reads, will not go on."""

_BUSY: Final = 4
"""Times that, where much else comes: what is read waits its turn in the client's queue."""

_LOOK_S_MAX: Final = 5.0


class Silence:
    """Notes which partitions stand before their ends.

    Promise: one is named only if answers `SILENT_S` apart told of more, none between failed, and
    the lane looked all the time and would have taken what came.
    State: an offset for each partition, and a time for those that stand before their ends.
    Units: `now_s` of a steady clock.
    """

    def __init__(self) -> None:
        self._before_ends: dict[Place, tuple[int, float]] = {}
        self._stood: dict[Place, int] = {}
        self._looked_s = 0.0

    def standing(self, places: list[Place], position: Callable[[Place], int]) -> list[Place]:
        """Those of which nothing came since the last call: of these ends have to be known.

        The one method that another thread may call.
        """
        before, self._stood = self._stood, {place: position(place) for place in places}
        return [place for place, at in self._stood.items() if before.get(place) == at]

    def note_look(self, now_s: float) -> None:
        """Note that the lane looks for more; after a longer pause all begins anew."""
        if now_s - self._looked_s > _LOOK_S_MAX:
            self.forget()
        self._looked_s = now_s

    def compare(
        self,
        ends: Mapping[Place, int],
        position: Callable[[Place], int],
        now_s: float,
        *,
        busy: bool,
    ) -> Place | None:
        """Compare an answer of Kafka with where the lane is; gives a partition that is silent.

        Shapes: `ends` has those that were told; the others begin anew.
        """
        before, self._before_ends = self._before_ends, {}
        for place, end in ends.items():
            at = position(place)
            if at < end:
                was, since_s = before.get(place, (at, now_s))
                self._before_ends[place] = (at, since_s if was == at else now_s)
        longest_s = SILENT_S * (_BUSY if busy else 1)
        for place, (_, since_s) in self._before_ends.items():
            if now_s - since_s >= longest_s:
                return place
        return None

    def drop(self, places: Iterable[Place]) -> None:
        """Begin anew with these: they were not to be read."""
        for place in places:
            self._before_ends.pop(place, None)

    def forget(self) -> None:
        """Begin anew with all: the lane took nothing for reasons of its own."""
        self._before_ends = {}
