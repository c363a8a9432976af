"""Write rows by column, in few large inserts, with a bounded retry.

Delivery: at least once; the tables make it effectively once, since a row that is written again
replaces itself. A time-out after the insert was applied is therefore harmless.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable
from typing import Final

import pyarrow as pa
import structlog
from clickhouse_connect.driver.client import Client

from connectors.clickhouse.client import WORLD_ERRORS, is_passing, write_error
from connectors.clickhouse.gather import Gathered, is_enough
from connectors.clickhouse.tables import TABLES
from connectors.crash import crash_point
from connectors.metrics import ROWS, WRITE
from schemas.blocks import Rows

_log = structlog.get_logger(__name__)

_PAUSE_S_MAX: Final = 10.0


def get_ready() -> None:
    """Let pyarrow import what it imports at its first use: pandas, for one, a second of CPU.

    To be called at the start; else the first epoch waits for it. Safe to repeat.
    """
    rows = pa.table({"key": [""], "ver": [0]})
    rows.group_by("key", use_threads=False).aggregate([("ver", "last")])


class TableWriter:
    """Collects rows for some tables and inserts them when told, or when there are enough.

    State: at most about `rows_max` rows a table between two calls; rows of keyed tables are
    folded to one a key as they wait.
    Units: `retry_s_max` bounds all tries between two flushes, from the first that failed; once
    `stop` says so, `stop_s_max` bounds what is left of them. `on_wait` is called before each
    further try.
    Errors: TransientError when ClickHouse stays away; PermanentError when it refuses.
    """

    def __init__(
        self,
        client: Client,
        *,
        rows_max: int = 5_000,
        retry_s_max: float = 600.0,
        stop: Callable[[], bool] = lambda: False,
        stop_s_max: float = 60.0,
        on_wait: Callable[[], None] = lambda: None,
        sleep: Callable[[float], None] = time.sleep,
        steady_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._rows_max = rows_max
        self._retry_s_max = retry_s_max
        self._stop = stop
        self._stop_s_max = stop_s_max
        self._on_wait = on_wait
        self._sleep = sleep
        self._steady_s = steady_s
        self._gathered: dict[str, Gathered] = {}
        self._failing_since_s: float | None = None
        self._stopping_since_s: float | None = None

    def add(self, rows: Rows) -> None:
        """Take rows; sends the table's when there are enough."""
        gathered = self._gathered.setdefault(rows.table, Gathered(TABLES[rows.table]))
        gathered.add(rows)
        if len(gathered) >= self._rows_max and is_enough([gathered], self._rows_max):
            self._send(rows.table)

    def flush(self) -> None:
        """Send everything; returns when ClickHouse confirmed it."""
        for name in last_are_fates(self._gathered):
            self._send(name)
        self.end()

    def end(self) -> None:
        """Note that everything was sent: a wait that begins after this has its whole bound."""
        self._failing_since_s = None

    def _send(self, name: str) -> None:
        gathered = self._gathered.pop(name, None)
        if gathered:
            self.send(name, gathered.batches())

    def send(self, name: str, batches: list[pa.RecordBatch]) -> None:
        """Send these rows now; returns when ClickHouse confirmed them."""
        rows = pa.Table.from_batches(batches)
        began_s = self._steady_s()
        self._insert(name, rows, began_s)
        ROWS.labels(name).inc(rows.num_rows)
        WRITE.labels(name).observe(self._steady_s() - began_s)

    def _insert(self, name: str, rows: pa.Table, began_s: float) -> None:
        pause_s = 0.1
        failed = 0
        while True:
            try:
                crash_point("before_insert")
                self._client.insert_arrow(name, rows)
                crash_point("after_insert")
            except WORLD_ERRORS as err:
                failed += 1
                gave_up = self._steady_s() + pause_s > self._end_of_tries_s(began_s)
                if gave_up or not is_passing(err):
                    raise write_error(name, err, gave_up=gave_up) from None
                if failed == 1:
                    _log.warning(
                        "clickhouse_lost", table=name, rows=rows.num_rows, doing="retrying"
                    )
                self._on_wait()
                self._sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311 - spreads retries
                pause_s = min(pause_s * 2, _PAUSE_S_MAX)
            else:
                if failed:
                    _log.info("clickhouse_found", table=name, failed_tries=failed)
                return

    def _end_of_tries_s(self, began_s: float) -> float:
        """Until when to try. One bound for all tables, so that an epoch has one, too."""
        if self._failing_since_s is None:
            self._failing_since_s = began_s
        if self._stopping_since_s is None and self._stop():
            self._stopping_since_s = self._steady_s()
        end_s = self._failing_since_s + self._retry_s_max
        if self._stopping_since_s is None:
            return end_s
        return min(end_s, self._stopping_since_s + self._stop_s_max)


def last_are_fates(names: Iterable[str]) -> list[str]:
    """Tables in their order, the books last: who sees a message in them finds its row as well."""
    return sorted(names, key="fates".__eq__)
