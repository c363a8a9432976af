"""Twins of the source and the sinks in memory, for tests: same items, one ordered journal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from bytewax.inputs import AbortExecution, FixedPartitionedSource, StatefulSourcePartition
from bytewax.outputs import StatefulSinkPartition

from connectors.lane_sink import LaneSink, lane_key
from schemas.blocks import RawBlock

X = TypeVar("X")

ABORT = "abort"
"""An item of a memory lane that ends the run there, as a crash would; only the first time."""


class Produced(NamedTuple):
    """A sink was given this."""

    sink: str
    item: Any


class Checkpointed(NamedTuple):
    """A sink was asked to make the epoch's items durable."""

    sink: str


class Journal:
    """Everything that the twins saw, in order."""

    def __init__(self) -> None:
        self.entries: list[Produced | Checkpointed] = []

    def items(self, sink: str) -> list[Any]:
        """What one sink was given, in order, repeats included."""
        return [
            entry.item
            for entry in self.entries
            if isinstance(entry, Produced) and entry.sink == sink
        ]


class MemorySource(FixedPartitionedSource[tuple[str, RawBlock], int]):
    """Lanes from lists of blocks. State: the place in the list.

    Blocks of the topics in `tables` are given again at every start, as `LaneSource` does.
    """

    def __init__(
        self, lanes: dict[int, list[RawBlock | str]], *, tables: Sequence[str] = ()
    ) -> None:
        self.lanes = lanes
        self.tables = tuple(tables)
        self.aborted: set[tuple[int, int]] = set()

    def list_parts(self) -> list[str]:
        """The lanes."""
        return [lane_key(lane) for lane in self.lanes]

    def build_part(self, _step_id: str, for_part: str, resume_state: int | None) -> MemoryLane:
        """One lane from where it was left."""
        return MemoryLane(self, int(for_part), resume_state or 0)


class MemoryLane(StatefulSourcePartition[tuple[str, RawBlock], int]):
    """One lane's list. State: the place in it."""

    def __init__(self, source: MemorySource, lane: int, at: int) -> None:
        self._source = source
        self._lane = lane
        self._at = at
        before = source.lanes[lane][:at]
        self._again = [
            block
            for block in before
            if isinstance(block, RawBlock) and block.topic in source.tables
        ]

    def next_batch(self) -> Iterable[tuple[str, RawBlock]]:
        """The next block. Errors: StopIteration at the end, AbortExecution at an abort mark."""
        if self._again:
            return [(lane_key(self._lane), self._again.pop(0))]
        blocks = self._source.lanes[self._lane]
        if self._at >= len(blocks):
            raise StopIteration
        block = blocks[self._at]
        self._at += 1
        if isinstance(block, str):
            mark = (self._lane, self._at)
            if mark not in self._source.aborted:
                self._source.aborted.add(mark)
                raise AbortExecution
            return []
        return [(lane_key(self._lane), block)]

    def snapshot(self) -> int:
        """The place in the list."""
        return self._at


class MemorySink(LaneSink[X]):
    """Writes to a journal under a name."""

    def __init__(self, name: str, journal: Journal, lanes: int) -> None:
        super().__init__(lanes=lanes)
        self.name = name
        self.journal = journal

    def open_lane(self, _lane: int) -> MemorySinkPart[X]:
        """One part."""
        return MemorySinkPart(self.name, self.journal.entries.append)


class MemorySinkPart(StatefulSinkPartition[X, None], Generic[X]):
    """One part of a memory sink."""

    def __init__(self, name: str, note: Callable[[Produced | Checkpointed], None]) -> None:
        self._name = name
        self._note = note

    def write_batch(self, items: list[X]) -> None:
        """Note the items."""
        for item in items:
            self._note(Produced(self._name, item))

    def snapshot(self) -> None:
        """Note the end of the epoch."""
        self._note(Checkpointed(self._name))
