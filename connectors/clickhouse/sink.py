"""The Bytewax sink for tables: rows are confirmed before their epoch is."""

from __future__ import annotations

import threading
from collections.abc import Callable

from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition

from connectors.clickhouse.writer import TableWriter
from connectors.kafka.lanes import lane_key
from schemas.blocks import Rows


class TableSink(FixedPartitionedSink[list[Rows], None]):
    """A Bytewax sink of `(lane, rows)`.

    The parts of one worker thread share a writer, so an epoch costs one insert a table and not
    one a lane: when the first part is asked for its snapshot, all parts have their rows.
    Delivery: at least once; see `connectors.clickhouse.writer`.
    """

    def __init__(self, *, lanes: int, make_writer: Callable[[], TableWriter]) -> None:
        self.lanes = lanes
        self._make_writer = make_writer
        self._writers: dict[int, TableWriter] = {}

    def list_parts(self) -> list[str]:
        """The lanes."""
        return [lane_key(lane) for lane in range(self.lanes)]

    def part_fn(self, item_key: str) -> int:
        """The part of a lane's key: its own number."""
        return int(item_key)

    def build_part(self, _step_id: str, _for_part: str, resume_state: None) -> TablePartition:
        """Open one lane's share of the worker's writer."""
        assert resume_state is None
        worker = threading.get_ident()
        if worker not in self._writers:
            self._writers[worker] = self._make_writer()
        return TablePartition(self._writers[worker])


class TablePartition(StatefulSinkPartition[list[Rows], None]):
    """One lane's share of a writer. State: none; the tables are the state."""

    def __init__(self, writer: TableWriter) -> None:
        self._writer = writer

    def write_batch(self, items: list[list[Rows]]) -> None:
        """Take rows; may insert, and wait for ClickHouse."""
        for parts in items:
            for rows in parts:
                self._writer.add(rows)

    def snapshot(self) -> None:
        """End an epoch: everything taken is confirmed by ClickHouse, or this raises."""
        self._writer.flush()
