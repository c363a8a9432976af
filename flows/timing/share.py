"""What lanes tell each other about all people: sums that add up, and name nobody.

Each lane publishes its own whole sums to a compacted topic and reads those of all others as a
table, through the same ordered source as everything else. So what was applied when is part of
the lane's order of blocks: a repeated epoch applies the same sums at the same places.
"""

from __future__ import annotations

from typing import Final

import msgspec
import structlog

from flows.model.evidence.clusters import ClusterLooks
from flows.model.evidence.gather import Evidence
from flows.timing.rhythms import NO_LOOKS

VERSION: Final = 1
_log = structlog.get_logger(__name__)


class Shard(msgspec.Struct, frozen=True):
    """What one lane publishes: sums of its experiment, and of each model by name.

    `digest` is that of what models know of all people: equal numbers of one lane have equal ones.
    `looks` are the lane's at whether people differ in their hours: how many, and what they add up
    to; an earlier release says nothing of them.
    """

    version: int
    lane: int
    number: int
    digest: str
    evidence: bytes
    populations: dict[str, bytes]
    looks: tuple[int, float] = NO_LOOKS


class Shards:
    """The newest shard of every other lane.

    State: one for each lane, at most as many as there are lanes.
    """

    def __init__(self, lane: int) -> None:
        self._lane = lane
        self._others: dict[int, Shard] = {}

    @property
    def lanes(self) -> list[int]:
        """The lanes whose sums are known."""
        return sorted(self._others)

    def hear(self, key: bytes, value: bytes | None, *, fresh: bool) -> Shard | None:
        """Take a message; gives it where it says something new.

        A lane's own words come back to it; they count only for one that starts without state.
        What cannot be read is of another release, and is left alone.
        """
        if value is None:
            if key.isdigit():
                self._others.pop(int(key), None)
            return None
        try:
            shard = msgspec.msgpack.decode(value, type=Shard)
        except msgspec.MsgspecError:
            _log.warning("shard_unreadable", lane=self._lane, bytes=len(value))
            return None
        if shard.version != VERSION or (shard.lane == self._lane and not fresh):
            return None
        self._others[shard.lane] = shard
        return shard

    def drop_own(self) -> None:
        """What this lane said in an earlier life is replaced by what it says now."""
        self._others.pop(self._lane, None)

    def evidence(self) -> list[Evidence]:
        """The experiment's sums of the others, in the order of their lanes."""
        return [Evidence.load(self._others[lane].evidence) for lane in self.lanes]

    def looks(self) -> list[ClusterLooks]:
        """The looks of the others, in the order of their lanes."""
        return [ClusterLooks(*self._others[lane].looks) for lane in self.lanes]

    def dump(self) -> list[bytes]:
        """The state; models keep their own part of it."""
        return [
            msgspec.msgpack.encode(msgspec.structs.replace(shard, populations={}))
            for _, shard in sorted(self._others.items())
        ]

    def load(self, dumped: list[bytes]) -> None:
        """Take back what `dump` gave."""
        shards = [msgspec.msgpack.decode(part, type=Shard) for part in dumped]
        self._others = {shard.lane: shard for shard in shards}
