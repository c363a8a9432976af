"""Which rows are on their way to ClickHouse behind the flow, and which of them are confirmed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, wait
from typing import Final, NamedTuple

import pyarrow as pa

from connectors.clickhouse.gather import Gathered, Part, is_enough
from connectors.clickhouse.receipts import Receipts
from connectors.clickhouse.saved_rows import dump_rows, read_rows
from connectors.clickhouse.tables import TABLES
from connectors.clickhouse.writer import TableWriter, last_are_fates
from connectors.courier import Courier
from schemas.blocks import Rows
from schemas.errors import TransientError

AHEAD_MAX: Final = 3
"""Times `rows_max` rows of a table that may be on their way before the flow waits for them."""

_LOOK_S: Final = 1.0

Parts = list[tuple[int, Part]]
"""Rows of one table, by lane."""


class _Send(NamedTuple):
    """Rows on their way to a table, and in which epoch they set out."""

    epoch: int
    table: str
    parts: Parts
    told: Future[None]


class BehindWriter:
    """Hands rows to a courier, and knows which of them ClickHouse has confirmed.

    State: rows that are not confirmed: of the running epoch and the one before it, at most about
    `AHEAD_MAX` times `rows_max` a table and what a block adds.
    Units: `wait_s_max` bounds all waits of one epoch together, whatever they are for. So long after
    an epoch's first rows, `early_s`, all that is there is handed over once: what ClickHouse has
    confirmed at the epoch's end need not be saved with it, while the flow stands. `before_early` is
    called before rows leave an epoch that has not ended.
    Errors: those of the writer, at the next call; TransientError at the end of that bound.
    """

    def __init__(
        self,
        writer: TableWriter,
        courier: Courier,
        *,
        rows_max: int,
        wait_s_max: float = float("inf"),
        early_s: float = float("inf"),
        before_early: Callable[[], None] = lambda: None,
        on_wait: Callable[[], None] = lambda: None,
        steady_s: Callable[[], float] = time.monotonic,
        receipts: Receipts | None = None,
    ) -> None:
        self._writer = writer
        self._courier = courier
        self._rows_max = rows_max
        self._wait_s_max = wait_s_max
        self._ahead_s = early_s
        self._before_early = before_early
        self._early_s = float("inf")
        self._on_wait = on_wait
        self._steady_s = steady_s
        self._receipts = receipts
        self._waited_s = 0.0
        self._is_open = False
        self._failed = False
        self._leave_by_s = float("inf")
        self._epoch = 0
        self._gathered: dict[str, dict[int, Gathered]] = {}
        self._sends: list[_Send] = []
        self._taken: list[tuple[str, Parts]] = []
        self._saved: dict[int, bytes] = {}
        self._receipt: Future[None] | None = None

    def add(self, lane: int, rows: Rows) -> None:
        """Take rows; hands the table's over when there are enough."""
        if not self._is_open:
            self._waited_s, self._is_open = 0.0, True
            self._early_s = self._steady_s() + self._ahead_s
        table = rows.table
        self._of(lane, table).add(rows)
        lanes = self._gathered[table].values()
        if sum(map(len, lanes)) < self._rows_max or not is_enough(lanes, self._rows_max):
            return
        self._before_early()
        self._hand_over(table)
        while self._on_their_way(table) > AHEAD_MAX * self._rows_max:
            self._await(self._sends[0].told)
            self._settle()

    def look_at_clock(self) -> None:
        """Hand over what is there, once an epoch is so old; to be called between blocks."""
        if self._is_open and self._steady_s() >= self._early_s:
            self._early_s = float("inf")
            self._before_early()
            self._hand_all_over()

    def end_epoch(self) -> None:
        """Hand everything over; returns when all of the epochs before this one is confirmed.

        What is to be saved is put down first: then the courier makes Arrow of it, and the flow goes
        on beside that.
        """
        if not self._is_open:
            self._waited_s = 0.0
        ended, self._is_open = self._is_open, False
        while self._sends and self._sends[0].epoch < self._epoch - (not ended):
            self._await(self._sends[0].told)
            self._settle()
        self._settle()
        if ended:
            self._end(self._epoch)
            self._epoch += 1

    def put_down(self) -> None:
        """Put down what is to be saved, ahead of `end_epoch`: for a moment of waiting elsewhere."""
        if not self._gathered:
            return
        self._taken += [(table, self._take(table)) for table in list(self._gathered)]
        lanes = {lane for _, parts in self._taken for lane, _ in parts}
        self._saved = {lane: dump_rows(self._parts_of(lane, self._taken)) for lane in lanes}

    def _end(self, epoch: int) -> None:
        self.put_down()
        taken, self._taken = self._taken, []
        for table in last_are_fates(dict.fromkeys(table for table, _ in taken)):
            for _, parts in (one for one in taken if one[0] == table):
                self._send(epoch, table, parts)
        self._sends.append(_Send(epoch, "", [], self._submit(self._writer.end)))

    def finish(self) -> None:
        """Hand everything over; returns when all is confirmed."""
        self.end_epoch()
        while self._sends:
            self._await(self._sends[0].told)
            self._settle()
        self._saved.clear()

    def leave(self, seconds_max: float) -> int:
        """Wait for what is on its way, but not for ever and whatever comes; gives what is left."""
        # All lanes leave one after the other, and wait for the same.
        self._leave_by_s = min(self._leave_by_s, time.monotonic() + seconds_max)
        left_s = max(self._leave_by_s - time.monotonic(), 0.0)
        receipts = [self._receipt] if self._receipt is not None else []
        wait([*(send.told for send in self._sends), *receipts], left_s)
        return sum(_rows(send.parts) for send in self._sends if not _confirmed(send))

    def unconfirmed(self, lane: int) -> bytes | None:
        """A lane's rows that are not confirmed, as bytes with a version; None for none."""
        state = self._saved.pop(lane, None)
        if state is None:
            gathered = [
                (table, [(number, _kept(one)) for number, one in lanes.items()])
                for table, lanes in self._gathered.items()
            ]
            tables = self._parts_of(lane, gathered)
            if not tables:
                return None
            state = dump_rows(tables)
        self._expect_receipt(lane, state)
        return state

    def _parts_of(
        self, lane: int, more: Sequence[tuple[str, Parts]]
    ) -> Mapping[str, Sequence[Part]]:
        """A lane's rows by table: on their way and not confirmed, and then these."""
        tables: dict[str, list[Part]] = {}
        waiting = [(send.table, send.parts) for send in self._sends if not _confirmed(send)]
        for table, parts in [*waiting, *more]:
            own = [part for number, part in parts if number == lane]
            if own:
                tables.setdefault(table, []).extend(own)
        return tables

    def take_up(self, lane: int, state: bytes) -> None:
        """Hand over what `unconfirmed` gave in an earlier run, unless it was confirmed since.

        Errors: PermanentError for a version or a table that this release does not know.
        """
        tables = read_rows(state)
        if self._receipts is not None and self._receipts.has(lane, state):
            return
        for table, batches in tables.items():
            for batch in batches:
                self._of(lane, table).put(batch)
        self._hand_all_over()
        self._expect_receipt(lane, state)

    def _expect_receipt(self, lane: int, state: bytes) -> None:
        """Have it noted, when everything handed over until now is confirmed, that this is."""
        receipts = self._receipts
        if receipts is not None and not self._gathered:
            self._receipt = self._submit(lambda: receipts.write(lane, state))

    def _of(self, lane: int, table: str) -> Gathered:
        lanes = self._gathered.setdefault(table, {})
        if lane not in lanes:
            lanes[lane] = Gathered(TABLES[table])
        return lanes[lane]

    def _hand_all_over(self) -> None:
        for table in last_are_fates(self._gathered):
            self._hand_over(table)

    def _hand_over(self, table: str) -> None:
        self._saved.clear()  # it would not have these
        self._send(self._epoch, table, self._take(table))

    def _take(self, table: str) -> Parts:
        lanes = self._gathered.pop(table)
        taken = [(lane, gathered.take()) for lane, gathered in lanes.items()]
        return [(lane, part) for lane, part in taken if part.num_rows]

    def _send(self, epoch: int, table: str, parts: Parts) -> None:
        if parts:
            told = self._submit(lambda: self._writer.send(table, _batches(parts)))
            self._sends.append(_Send(epoch, table, parts, told))

    def _submit(self, act: Callable[[], None]) -> Future[None]:
        """Hand over; nothing is sent after a failure: books would name rows that are not there."""

        def unless_failed() -> None:
            if self._failed:
                raise TransientError(
                    do="write", kind="rows", found="an earlier insert that failed", hint="see there"
                )
            try:
                act()
            except BaseException:
                self._failed = True
                raise

        return self._courier.submit(unless_failed)

    def _await(self, told: Future[None]) -> None:
        """Wait until it is done, and say so to the watchdog: the wait is bounded."""
        before_s, began_s = self._waited_s, self._steady_s()
        while True:
            left_s = self._wait_s_max - self._waited_s
            try:
                told.result(min(_LOOK_S, max(left_s, 0.0)))
            except TimeoutError:
                if told.done():
                    # By now: either it is this error that it ended with, or it is well.
                    told.result()
                    return
                if left_s <= 0:
                    raise _too_slow(self._wait_s_max) from None
                self._on_wait()
            else:
                return
            finally:
                self._waited_s = before_s + self._steady_s() - began_s

    def _settle(self) -> None:
        """Forget what is confirmed; raises the error of what failed."""
        while self._sends and self._sends[0].told.done():
            self._sends[0].told.result()
            del self._sends[0]

    def _on_their_way(self, table: str) -> int:
        return sum(_rows(send.parts) for send in self._sends if send.table == table)


def _too_slow(seconds: float) -> TransientError:
    return TransientError(
        do="write",
        kind="rows",
        found=f"no confirmation by ClickHouse in {seconds:g} s of one epoch",
        expected="an epoch that ends before Kafka gives its transaction up "
        "(AIRSIDE_KAFKA__TRANSACTION_S_MAX)",
        hint="nothing is lost: the epoch is repeated at the next start; "
        "look why ClickHouse is slow",
    )


def _confirmed(send: _Send) -> bool:
    return send.told.done() and send.told.exception() is None


def _kept(gathered: Gathered) -> Part:
    return Part(gathered.table, gathered.batches())


def _batches(parts: Parts) -> list[pa.RecordBatch]:
    return [batch for _, part in parts for batch in part.batches()]


def _rows(parts: Parts) -> int:
    return sum(part.num_rows for _, part in parts)
