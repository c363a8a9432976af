"""What all our sinks share: their parts are the lanes of this process."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, TypeVar

from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition

from connectors.tell import tells

X = TypeVar("X")


def lane_key(lane: int) -> str:
    """The key of a lane: of source parts, of state and of sink parts.

    >>> lane_key(3)
    '003'
    """
    return f"{lane:03d}"


class LaneSink(FixedPartitionedSink[X, Any]):
    """A Bytewax sink of `(lane, item)`: one part for each lane of this process.

    `own` are those lanes in rising order; all of them when not given. No part takes state back
    from the engine, unless its sink builds parts itself: another delivery may have saved some.
    """

    def __init__(self, *, lanes: int, own: Sequence[int] | None = None) -> None:
        self.lanes = lanes
        self.own = tuple(range(lanes) if own is None else own)

    def list_parts(self) -> list[str]:
        """The lanes of this process."""
        return [lane_key(lane) for lane in self.own]

    @tells("route_to_lane")
    def part_fn(self, item_key: str) -> int:
        """The part of a lane's key: its place among the lanes of this process."""
        return self.own.index(int(item_key))

    @tells("open_lane")
    def build_part(
        self, _step_id: str, for_part: str, _resume_state: Any
    ) -> StatefulSinkPartition[X, Any]:
        """Open one lane's part."""
        return self.open_lane(int(for_part))

    @abstractmethod
    def open_lane(self, lane: int) -> StatefulSinkPartition[X, Any]:
        """Open one lane's part."""
