"""Reconciliation on a running ClickHouse: what differs is told exactly, and mended exactly."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import msgspec
import pytest
from clickhouse_connect.driver.client import Client

from connectors.clickhouse.client import ClickHouseAddress, connect
from connectors.clickhouse.migrations import apply_migrations, read_migrations
from connectors.embedded.clickhouse import EmbeddedClickHouse
from flows.places import MIGRATIONS
from flows.reconcile import cells as cells_module
from flows.reconcile.findings import State
from flows.reconcile.job import ClickHouseStore, Wish, reconcile
from schemas.blocks import Rows
from schemas.errors import ConfigError, PermanentError
from tests.messages import HOUR_MS, NOW_MS, delivered, with_body
from tests.reconcile_world import (
    BOUNDS,
    DELIVERIES,
    OLD_MS,
    OLD_S,
    PAYMENTS,
    REPAIR,
    Worker,
    busy_worker,
    cells_as_read,
    damage,
    facts_as_cells,
    old,
    open_tables,
    run,
    told,
)
from tests.services import ClickHouseService


@pytest.fixture
def client(clickhouse_tables: ClickHouseAddress) -> Iterator[Client]:
    opened = connect(clickhouse_tables)
    yield opened
    opened.close()


@pytest.fixture
def worker(client: Client) -> Worker:
    return busy_worker(client)


def test_equal_tables_are_well_and_every_cell_was_compared(client: Client, worker: Worker) -> None:
    report = run(client, Wish())
    rows = int(client.query("SELECT count() FROM rollup_1m_lanes FINAL").result_rows[0][0])

    assert report.is_well
    assert rows == report.minutes.compared == 8
    assert 1 == report.hours.compared
    assert 0 < report.books.compared
    assert facts_as_cells(client) == cells_as_read(client)


DAMAGES: Mapping[str, tuple[str, str, tuple[Any, ...]]] = {
    "n": ("n + 2 AS n", DELIVERIES, ("n", 5, 7)),
    "amount": ("amount_minor - 1 AS amount_minor", PAYMENTS, ("amount", 3, 3)),
    "histogram": (
        "arrayMap((x, at) -> if(at = 3, x + 1, x), latency_hist, range(32)) AS latency_hist",
        PAYMENTS,
        ("histogram", 3, 3),
    ),
    "short histogram": ("[]::Array(UInt64) AS latency_hist", PAYMENTS, ("histogram", 3, 3)),
}


@pytest.mark.parametrize("name", list(DAMAGES))
def test_a_wrong_value_is_told_exactly_and_mended_exactly(
    name: str, client: Client, worker: Worker
) -> None:
    changes, where, (what, facts_n, rollup_n) = DAMAGES[name]
    damage(client, changes, where)

    seen = run(client, Wish())
    assert [(OLD_S, 0, what, facts_n, rollup_n, State.CLOSED)] == told(seen)
    assert (1, 0, 1) == (seen.minutes.differing, seen.minutes.repaired, seen.minutes.remaining)
    assert not seen.is_well
    # Nothing was written without being asked to.
    assert told(seen) == told(run(client, Wish()))

    mended = run(client)
    assert [(OLD_S, 0, what, facts_n, rollup_n, State.REPAIRED)] == told(mended)
    assert mended.is_well
    assert facts_as_cells(client) == cells_as_read(client)
    assert [] == told(run(client))


def test_a_lost_row_is_told_and_written_again(client: Client, worker: Worker) -> None:
    client.command(f"DELETE FROM rollup_1m_lanes WHERE {DELIVERIES}")

    assert [(OLD_S, 0, "no row", 5, 0, State.REPAIRED)] == told(run(client))
    assert facts_as_cells(client) == cells_as_read(client)


def test_a_row_without_facts_is_brought_to_nothing_and_not_shown(
    client: Client, worker: Worker
) -> None:
    client.command(
        "INSERT INTO rollup_1m_lanes SELECT * REPLACE ('ghost' AS campaign)"
        f" FROM (SELECT * FROM rollup_1m_lanes FINAL WHERE {DELIVERIES})"
    )

    assert [(OLD_S, 0, "no facts", 0, 5, State.REPAIRED)] == told(run(client))
    assert facts_as_cells(client) == cells_as_read(client)
    kept = client.query(
        "SELECT n, bitShiftRight(ver, 40) FROM rollup_1m_lanes FINAL WHERE campaign = 'ghost'"
    )
    assert [(0, 1)] == list(kept.result_rows)
    assert [] == told(run(client))


def repeat_after_memory(worker: Worker, *, part: int) -> None:
    """The lane has forgotten the event: another hour of event time went by."""
    worker.take(old(1)._replace(recorded_ms=OLD_MS + 5), part=0)
    for step in (2, 4):
        at_ms = OLD_MS + step * HOUR_MS
        worker.take(delivered(50 + step, at_ms=at_ms)._replace(recorded_ms=at_ms), part=part)
    worker.take(old(1)._replace(recorded_ms=OLD_MS + 5 * HOUR_MS), part=part)


def test_a_repeat_that_was_counted_twice_is_mended_once_it_is_closed(client: Client) -> None:
    worker = Worker(client)
    repeat_after_memory(worker, part=0)

    assert [(OLD_S, 0, "n", 1, 2, State.OPEN)] == told(run(client))

    worker.close_the_past()
    assert [(OLD_S, 0, "n", 1, 2, State.REPAIRED)] == told(run(client))
    assert facts_as_cells(client) == cells_as_read(client)


def test_a_repeat_on_another_lane_counts_where_its_fact_is(client: Client) -> None:
    worker = Worker(client)
    worker.take(*(old(number) for number in range(2, 5)), part=1)
    repeat_after_memory(worker, part=1)
    worker.close_the_past()

    # The lane of the greater offset keeps it.
    assert [(OLD_S, 0, "no facts", 0, 1, State.REPAIRED)] == told(run(client))
    assert facts_as_cells(client) == cells_as_read(client)


def test_an_open_cell_is_told_and_never_touched(client: Client, worker: Worker) -> None:
    damage(client, "n + 1 AS n", f"w >= toDateTime({OLD_S + 3_600}) AND lane = 1")
    versions = "SELECT w, event_type, lane, ver FROM rollup_1m_lanes FINAL ORDER BY ALL"
    before = client.query(versions).result_rows

    report = run(client)
    assert {State.OPEN} == {cell.state for cell in report.cell_findings}
    assert (2, 0, 2) == (report.minutes.differing, report.minutes.repaired, report.minutes.open)
    assert not report.is_well
    assert list(before) == list(client.query(versions).result_rows)
    assert run(client, Wish(closed_only=True, repair=True)).is_well


def test_the_worker_goes_on_after_a_repair_and_does_not_undo_it(
    client: Client, worker: Worker
) -> None:
    damage(client, "n + 2 AS n", DELIVERIES)
    run(client)

    refused = worker.take(old(77), delivered(78))
    assert {"T601", ""} == {code for (_, code), count in refused.counts.items() if count}
    assert [] == told(run(client))
    assert facts_as_cells(client) == cells_as_read(client)


YESTERDAY = NOW_MS // 1_000 - 86_400


class KilledError(Exception):
    """The job's process is gone."""


class Dying:
    """A store that dies at the n-th write, before or after the table has it."""

    def __init__(self, inner: ClickHouseStore, *, at: int, after: bool) -> None:
        self._inner, self._left, self._after = inner, at, after
        self.read = inner.read

    def write(self, rows: Rows) -> None:
        self._left -= 1
        if self._left < 0 and not self._after:
            raise KilledError
        self._inner.write(rows)
        if self._left < 0:
            raise KilledError


@pytest.mark.parametrize("at", [0, 1, 2])
@pytest.mark.parametrize("after", [False, True])
def test_a_run_that_is_killed_and_run_again_ends_right(
    client: Client, monkeypatch: pytest.MonkeyPatch, *, at: int, after: bool
) -> None:
    monkeypatch.setattr(cells_module, "CHUNK_HOURS", 1)
    worker = Worker(client)
    for hours in (30, 28, 26):
        at_ms = NOW_MS - hours * HOUR_MS
        worker.take(delivered(hours, at_ms=at_ms)._replace(recorded_ms=at_ms))
    worker.close_the_past()
    client.command("TRUNCATE TABLE rollup_1m_lanes")
    store = Dying(ClickHouseStore(client, retry_s_max=10.0), at=at, after=after)

    with pytest.raises(KilledError):
        reconcile(store, REPAIR, BOUNDS, now_ms=NOW_MS)
    half = len(cells_as_read(client))
    assert at + after == half
    again = run(client)

    assert 3 - half == again.minutes.repaired
    closed = {key: cell for key, cell in facts_as_cells(client).items() if key[0] * 60 < YESTERDAY}
    assert 3 == len(closed)
    assert closed == {k: c for k, c in cells_as_read(client).items() if k[0] * 60 < YESTERDAY}


def test_a_repair_that_times_out_after_it_was_applied_is_right(tmp_path: Path) -> None:
    with EmbeddedClickHouse(data_dir=tmp_path, faults=True) as server:
        client = open_tables(ClickHouseAddress(server.dsn, "airside"))
        busy_worker(client)
        damage(client, "n + 2 AS n", DELIVERIES)
        store = ClickHouseStore(client, retry_s_max=10.0)

        class Timing:
            read = staticmethod(store.read)

            @staticmethod
            def write(rows: Rows) -> None:
                path = f"{server.dsn}/fault?mode=apply_then_timeout&count=1"
                with urlopen(Request(path, method="POST"), timeout=10) as answer:
                    answer.read()
                store.write(rows)

        assert 1 == reconcile(Timing(), REPAIR, BOUNDS, now_ms=NOW_MS).minutes.repaired
        assert facts_as_cells(client) == cells_as_read(client)
        assert run(client).is_well
        assert 3 == client.query("SELECT count() FROM reconciliations FINAL").result_rows[0][0]
        client.close()


def test_repairs_win_over_repairs(client: Client, worker: Worker) -> None:
    for generation in (1, 2, 3):
        damage(client, "n + 2 AS n", DELIVERIES)
        assert 1 == run(client).minutes.repaired
        versions = f"SELECT bitShiftRight(ver, 40) FROM rollup_1m_lanes FINAL WHERE {DELIVERIES}"
        assert [(generation,)] == list(client.query(versions).result_rows)
    assert facts_as_cells(client) == cells_as_read(client)


def test_latencies_fall_into_the_same_buckets_here_and_there(client: Client) -> None:
    edges = [-300_000, -1, 0, 1, *(2**n + more for n in range(1, 33) for more in (-1, 0, 1))]
    worker = Worker(client)
    worker.take(
        *(
            delivered(n, at_ms=OLD_MS)._replace(recorded_ms=OLD_MS + latency_ms)
            for n, latency_ms in enumerate(edges, 1)
        )
    )
    report = run(client, Wish())

    assert (1, 0) == (report.minutes.compared, report.minutes.differing)
    [[n, _, histogram]] = cells_as_read(client).values()
    assert len(edges) == n == sum(histogram)
    assert all(histogram)


def test_a_cell_is_left_alone_when_its_newest_record_is_older_than_asked(client: Client) -> None:
    worker = Worker(client)
    recent = old(2)._replace(recorded_ms=NOW_MS - HOUR_MS)
    worker.take(old(1), with_body(recent, campaign="autumn"))
    worker.close_the_past()
    damage(client, "n + 2 AS n", f"w = {OLD_S}")

    report = run(client, Wish(repair=True, since_s=29 * 3_600))
    assert [(OLD_S, 0, "n", 1, 3, State.REPAIRED)] == told(report)
    assert (5, 0) == (report.minutes.compared, report.hours.compared)


def test_a_cell_whose_first_facts_may_have_expired_is_never_lowered(
    client: Client, worker: Worker
) -> None:
    tight = msgspec.structs.replace(BOUNDS, retention_s=28 * 3_600)
    damage(client, "n + 2 AS n, toDateTime(recorded_at + 7200) AS recorded_at", DELIVERIES)
    damage(client, "n - 1 AS n, toDateTime(recorded_at + 7200) AS recorded_at", PAYMENTS)

    report = run(client, Wish(repair=True, since_s=28 * 3_600), bounds=tight)
    assert {("n", 5, 7, State.EXPIRED), ("n", 3, 2, State.REPAIRED)} == {
        line[2:] for line in told(report)
    }
    assert not report.is_well


def test_many_events_do_not_go_from_the_rollups_unasked(
    client: Client, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Facts that are gone look like events that were counted twice."""
    monkeypatch.setattr(cells_module, "LOSS_EVENTS_MAX", 4)
    client.command("DELETE FROM facts WHERE event_type LIKE '%delivered%'")

    report = run(client)
    assert {State.LOSS, State.OPEN} == {cell.state for cell in report.cell_findings}
    assert 0 == report.minutes.repaired
    assert not report.is_well

    assert 3 == run(client, Wish(repair=True, any_loss=True)).minutes.repaired


def test_another_number_of_lanes_than_the_books_know_is_refused(
    client: Client, worker: Worker
) -> None:
    with pytest.raises(ConfigError, match="AIRSIDE_LANES"):
        run(client, bounds=msgspec.structs.replace(BOUNDS, lanes=1))


def test_a_database_that_was_not_migrated_is_named(client: Client) -> None:
    client.command("DROP TABLE rollup_floors SYNC")

    with pytest.raises(PermanentError, match="airside migrate"):
        run(client)


def test_cells_of_before_arms_were_told_apart_are_mended_by_the_facts(
    clickhouse_service: ClickHouseService, clickhouse_database: str
) -> None:
    """The upgrade: a row of an earlier release, the new column, and the cell closed and mended."""
    address = ClickHouseAddress(clickhouse_service.dsn, clickhouse_database)
    client = connect(address, create_database=True, tries=2)
    migrations = read_migrations(MIGRATIONS)
    arms_in = next(one.number for one in migrations if one.name.endswith("tell_arms_apart.sql"))
    apply_migrations(client, migrations[: arms_in - 1])
    client.command(
        "INSERT INTO rollup_1m_lanes SELECT toDateTime({at:UInt32}), 'ntf.delivery.delivered.v1',"
        " 'spring', 'email', 'GDPR,PII', '', 0, 3, 0, range(32), toDateTime({at:UInt32}), 3",
        parameters={"at": OLD_S},
    )
    apply_migrations(client, migrations)
    working = Worker(client)
    working.take(old(1), with_body(old(2), arm="a"), with_body(old(3), arm="b"))
    client.command(f"DELETE FROM rollup_1m_lanes WHERE w = {OLD_S} AND arm != ''")
    working.close_the_past()

    report = run(client)

    assert [3, 3, 0] == [report.minutes.differing, report.minutes.repaired, report.minutes.open]
    assert {"", "a", "b"} == {key[-1] for key in facts_as_cells(client)}
    assert facts_as_cells(client) == cells_as_read(client)
    assert run(client, Wish()).is_well
    for view in ("rollup_1h", "rollup_1d"):
        sums = "SELECT arm, sum(n) FROM {view:Identifier} GROUP BY arm ORDER BY arm"
        counts = client.query(sums, parameters={"view": view}).result_rows
        assert [("a", 1), ("b", 1)] == list(counts)[1:]
    client.close()
