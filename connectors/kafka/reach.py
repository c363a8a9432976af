"""How far a lane has read each of its partitions, in offsets and in time."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from connectors.kafka.lane_state import Place
from schemas.blocks import RawBlock, runs_of


class Reach:
    """One lane's partitions: the next offset, the newest time, and whether there is more.

    `offsets` are the next offsets, of the partitions that were read at all.
    Units: `now_s` of a steady clock; record times in milliseconds.
    """

    def __init__(self, offsets: Mapping[Place, int]) -> None:
        self.offsets = dict(offsets)
        self._newest: dict[Place, int] = {}
        self._ends: dict[Place, int] = {}
        self._caught_up: dict[Place, float] = {}

    def next_of(self, place: Place) -> int:
        """The next offset of a partition; 0 before the first message."""
        return self.offsets.get(place, 0)

    def note_block(self, block: RawBlock, now_s: float) -> None:
        """Note a block that was given to the flow."""
        ends = {number: end - 1 for number, _, end in runs_of(block.partitions)}
        for number, last in ends.items():
            place, offset = (block.topic, number), block.offsets[last]
            self.offsets[place] = offset + 1
            self._newest[place] = block.timestamps[last]
            # Its end may have been told while some of its messages were held back.
            if self._ends.get(place, 0) > offset:
                self._caught_up[place] = now_s
            else:
                self._caught_up.pop(place, None)

    def pass_over(self, offsets: Mapping[Place, int]) -> None:
        """Note that nothing before these next offsets is to come any more."""
        for place, offset in offsets.items():
            self.offsets[place] = max(self.next_of(place), offset)

    def note_end(self, place: Place, offset: int, now_s: float) -> None:
        """Note that a partition has nothing at this next offset."""
        self._ends[place] = offset
        if offset >= self.next_of(place):
            self._caught_up.setdefault(place, now_s)

    def position(self, place: Place) -> int:
        """The next offset, or the end that was told behind what is no message."""
        return max(self.next_of(place), self._ends.get(place, 0))

    def is_caught_up(self, place: Place) -> bool:
        """Whether everything that was there has been given."""
        return place in self._caught_up

    def quiet(self, now_s: float, longest_s: float) -> tuple[Place, ...]:
        """The partitions that have had nothing more for so long."""
        return tuple(
            place for place, since_s in self._caught_up.items() if now_s - since_s >= longest_s
        )

    def wait(self, seconds: float) -> None:
        """Take time in which nobody looked from the time in which partitions had nothing."""
        for place in self._caught_up:
            self._caught_up[place] += seconds

    def is_unread(self, places: Collection[Place], quiet: Collection[Place]) -> bool:
        """Whether some of these partitions were neither read yet nor are quiet."""
        return any(place not in self._newest and place not in quiet for place in places)

    def ahead(self, topics: Collection[str], ahead_ms_max: int) -> set[Place]:
        """The partitions that are far ahead of the slowest one that has more to read."""
        newest = {place: at for place, at in self._newest.items() if place[0] in topics}
        behind = [at for place, at in newest.items() if place not in self._caught_up]
        if not behind:
            return set()
        limit = min(behind) + ahead_ms_max
        return {place for place, at in newest.items() if at > limit}
