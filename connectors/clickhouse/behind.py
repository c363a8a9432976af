"""Write rows behind the flow: an epoch ends without a wait for ClickHouse.

Rows that ClickHouse has not confirmed when an epoch ends are saved with the epoch, and written
while the next one runs. A start that finds such rows writes them first. So nothing is lost, and
what was written already is written again and replaces itself, as after any crash. A receipt in a
file says which saved rows were confirmed since, so that no further start writes those again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, Final

import structlog
from bytewax.outputs import StatefulSinkPartition

from connectors.clickhouse.behind_writer import BehindWriter
from connectors.clickhouse.receipts import Receipts
from connectors.clickhouse.writer import TableWriter, get_ready
from connectors.courier import Courier, ThreadCourier
from connectors.lane_sink import LaneSink
from connectors.tell import tells
from schemas.blocks import Rows

_log = structlog.get_logger(__name__)

_CLOSE_S_MAX: Final = 30.0


class BehindSink(LaneSink[list[Rows]]):
    """A Bytewax sink of `(lane, rows)` that does not make the flow wait for ClickHouse.

    The parts of one worker thread share a writer, so an epoch costs one insert a table and not
    one a lane: when the first part is asked for its snapshot, all parts have their rows.
    `stop` tells that the flow is to end: an epoch that has rows then is confirmed before it is
    over. What an epoch before left, with nothing after it, is waited for at the close, and stays
    saved. `on_wait` is called while the flow waits for ClickHouse, `wait_s_max` seconds of an
    epoch at the most; `early_s` and `before_early` are as of the writer. `receipts` know which
    saved rows were confirmed since.
    Delivery: at least once; see `connectors.clickhouse.writer`. A row is in its table, or saved
    with its epoch, before the epoch is durable.
    """

    def __init__(
        self,
        *,
        lanes: int,
        own: Sequence[int] | None = None,
        make_writer: Callable[[], TableWriter],
        rows_max: int = 5_000,
        wait_s_max: float = float("inf"),
        early_s: float = float("inf"),
        before_early: Callable[[], None] = lambda: None,
        stop: Callable[[], bool] = lambda: False,
        on_wait: Callable[[], None] = lambda: None,
        receipts: Receipts | None = None,
        make_courier: Callable[[], Courier] = ThreadCourier,
    ) -> None:
        super().__init__(lanes=lanes, own=own)
        self.stop = stop
        self.wait_s_max = wait_s_max
        self.early_s = early_s
        self.before_early = before_early
        self._on_wait = on_wait
        self.receipts = receipts
        self._make_writer = make_writer
        self._make_courier = make_courier
        self._rows_max = rows_max
        self._writers: dict[int, BehindWriter] = {}
        get_ready()

    @tells("open_lane")
    def build_part(self, _step_id: str, for_part: str, resume_state: Any) -> BehindPartition:
        """Open one lane's part; what it did not get confirmed before is on its way at once."""
        part = self.open_lane(int(for_part))
        if resume_state is not None:
            part.take_up(resume_state)
        return part

    def put_down(self) -> None:
        """Let the writer of this worker thread put down what is to be saved with the epoch."""
        writer = self._writers.get(threading.get_ident())
        if writer is not None:
            writer.put_down()

    def open_lane(self, lane: int) -> BehindPartition:
        """Open one lane's share of the worker's writer."""
        worker = threading.get_ident()
        if worker not in self._writers:
            writer = self._make_writer()
            self._writers[worker] = BehindWriter(
                writer,
                self._make_courier(),
                rows_max=self._rows_max,
                wait_s_max=self.wait_s_max,
                early_s=self.early_s,
                before_early=self.before_early,
                on_wait=self._on_wait,
                receipts=self.receipts,
            )
        return BehindPartition(lane, self._writers[worker], self.stop)


class BehindPartition(StatefulSinkPartition[list[Rows], bytes | None]):
    """One lane's share of a writer. State: its rows that are not confirmed."""

    def __init__(self, lane: int, writer: BehindWriter, stop: Callable[[], bool]) -> None:
        self._lane = lane
        self._writer = writer
        self._stop = stop

    def take_up(self, state: bytes) -> None:
        """Go on with what an earlier run had not got confirmed."""
        self._writer.take_up(self._lane, state)

    @tells("write_rows")
    def write_batch(self, items: list[list[Rows]]) -> None:
        """Take rows; waits for ClickHouse only where it is far behind."""
        for parts in items:
            self._writer.look_at_clock()
            for rows in parts:
                self._writer.add(self._lane, rows)

    @tells("write_rows")
    def snapshot(self) -> bytes | None:
        """End an epoch: what ClickHouse has not confirmed is saved; raises what went wrong."""
        if self._stop():
            self._writer.finish()
        else:
            self._writer.end_epoch()
        return self._writer.unconfirmed(self._lane)

    def close(self) -> None:
        """Give what is left a moment; the next start writes what is not confirmed."""
        left = self._writer.leave(_CLOSE_S_MAX)
        if left:
            _log.warning("rows_left", lane=self._lane, rows=left, doing="saved for the next start")
