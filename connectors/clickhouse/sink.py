"""The Bytewax sink for tables: rows are confirmed before their epoch is."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from bytewax.outputs import StatefulSinkPartition

from connectors.clickhouse.writer import TableWriter, get_ready
from connectors.lane_sink import LaneSink
from connectors.tell import tells
from schemas.blocks import Rows


class TableSink(LaneSink[list[Rows]]):
    """A Bytewax sink of `(lane, rows)`.

    The parts of one worker thread share a writer, so an epoch costs one insert a table and not
    one a lane: when the first part is asked for its snapshot, all parts have their rows.
    Delivery: at least once; see `connectors.clickhouse.writer`.
    """

    def __init__(
        self,
        *,
        lanes: int,
        own: Sequence[int] | None = None,
        make_writer: Callable[[], TableWriter],
    ) -> None:
        super().__init__(lanes=lanes, own=own)
        get_ready()
        self._make_writer = make_writer
        self._writers: dict[int, TableWriter] = {}

    def open_lane(self, _lane: int) -> TablePartition:
        """Open one lane's share of the worker's writer."""
        worker = threading.get_ident()
        if worker not in self._writers:
            self._writers[worker] = self._make_writer()
        return TablePartition(self._writers[worker])


class TablePartition(StatefulSinkPartition[list[Rows], None]):
    """One lane's share of a writer. State: none; the tables are the state."""

    def __init__(self, writer: TableWriter) -> None:
        self._writer = writer

    @tells("write_rows")
    def write_batch(self, items: list[list[Rows]]) -> None:
        """Take rows; may insert, and wait for ClickHouse."""
        for parts in items:
            for rows in parts:
                self._writer.add(rows)

    @tells("write_rows")
    def snapshot(self) -> None:
        """End an epoch: everything taken is confirmed by ClickHouse, or this raises."""
        self._writer.flush()
