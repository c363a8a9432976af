"""Profiles of closed minutes on a running ClickHouse: rollups are the facts, whatever happens."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client

from connectors.clickhouse.client import ClickHouseAddress, connect
from connectors.clickhouse.migrations import apply_migrations, read_migrations
from flows.places import MIGRATIONS
from flows.reconcile.findings import State
from flows.reconcile.job import Wish
from schemas.ticket import format_time
from tests.messages import HOUR_MS, NOW_MS, Message, profile, with_header
from tests.reconcile_world import (
    OLD_MS,
    OLD_S,
    Worker,
    cells_as_read,
    facts_as_cells,
    run,
    told,
)
from tests.services import ClickHouseService

PROFILES = f"event_type LIKE '%profile%' AND w = {OLD_S}"


@pytest.fixture
def client(clickhouse_tables: ClickHouseAddress) -> Iterator[Client]:
    opened = connect(clickhouse_tables)
    yield opened
    opened.close()


def told_at(number: int, *, hours: float = 0.0) -> Message:
    """A profile of the minute that gets closed, recorded so long after it."""
    named = profile(number, subject=f"usr_{number:016d}")
    recorded_ms = OLD_MS + number + int(hours * HOUR_MS)
    timed = with_header(named, "ce_time", format_time(OLD_MS + number))
    return timed._replace(recorded_ms=recorded_ms)


def in_time(worker: Worker) -> None:
    """Three profiles of one minute in two lanes, and everything of then closed."""
    worker.take(told_at(1), told_at(2))
    worker.take(told_at(3), part=1)
    for part in (0, 1):
        worker.take(profile(900 + part), part=part)
    worker.close_the_past()


def late(worker: Worker) -> None:
    """More of that minute: long on their way, and recorded in time but not read."""
    worker.take(told_at(11, hours=28), told_at(12, hours=28.5))
    worker.take(told_at(13), told_at(14, hours=28), part=1)
    worker.take(told_at(15), part=2)


@pytest.fixture
def worker(client: Client) -> Worker:
    made = Worker(client)
    in_time(made)
    return made


def profiles_as_read(client: Client, table: str = "rollup_1m") -> int:
    query = (
        "SELECT sum(n) FROM {table:Identifier}"
        " WHERE event_type LIKE '%profile%' AND w < {until:UInt32}"
    )
    parameters = {"table": table, "until": OLD_S + 3_600}
    [(count,)] = client.query(query, parameters=parameters).result_rows
    return int(count)


def lates(client: Client) -> list[tuple[Any, ...]]:
    query = f"SELECT lane, late, n, ver FROM rollup_1m_lanes FINAL WHERE {PROFILES} ORDER BY ALL"
    return [tuple(row) for row in client.query(query).result_rows]


def test_a_profile_of_a_closed_minute_is_counted_as_it_is_in_the_facts(
    client: Client, worker: Worker
) -> None:
    assert 3 == profiles_as_read(client)
    late(worker)

    assert facts_as_cells(client) == cells_as_read(client)
    assert [8] * 3 == [profiles_as_read(client, f"rollup_1{of}") for of in "mhd"]
    report = run(client, Wish())
    assert report.is_well
    assert ([], 0) == (told(report), report.minutes.differing)
    client.command("OPTIMIZE TABLE rollup_1m_lanes FINAL")
    assert facts_as_cells(client) == cells_as_read(client)


def test_an_epoch_that_is_killed_and_repeated_writes_the_same_rows(
    client: Client, worker: Worker
) -> None:
    saved = worker.saved()
    late(worker)
    before = lates(client)
    worker.killed(saved)
    late(worker)
    late_again = worker.saved()

    assert before == lates(client)
    assert facts_as_cells(client) == cells_as_read(client)
    worker.killed(late_again)
    worker.take(told_at(16, hours=28))
    assert 9 == profiles_as_read(client)
    assert run(client, Wish()).is_well


def test_a_lane_without_state_counts_what_was_long_on_its_way_once(client: Client) -> None:
    """From an empty data folder all that Kafka has is read again, before anything is closed."""
    worker, anew = Worker(client), Worker(client)
    in_time(worker)
    worker.take(told_at(11, hours=28), told_at(12, hours=28))
    anew.take(told_at(1), told_at(2), profile(900), told_at(11, hours=28), told_at(12, hours=28))
    anew.take(told_at(3), profile(901), part=1)
    anew.close_the_past()

    assert facts_as_cells(client) == cells_as_read(client)


DAMAGES = {
    "its row is lost": ("DELETE FROM rollup_1m_lanes WHERE late > 0 AND lane = 0", [("n", 5, 2)]),
    "its row counts two": ("2 AS n", [("n", 1, 2)]),
    "its row is in no bucket": (
        "arrayMap(n -> 0, range(32)) AS latency_hist",
        [("histogram", 1, 1)],
    ),
    "its row has no fact": ("late + 1000 AS late", [("no facts", 0, 1)]),
}


@pytest.mark.parametrize("name", list(DAMAGES))
def test_what_differs_is_told_and_mended_and_what_comes_then_counts(
    name: str, client: Client, worker: Worker
) -> None:
    late(worker)
    change, wanted = DAMAGES[name]
    if not change.startswith("DELETE"):
        change = (
            f"INSERT INTO rollup_1m_lanes SELECT * REPLACE ({change}, ver + 1 AS ver) FROM"
            f" (SELECT * FROM rollup_1m_lanes FINAL WHERE {PROFILES} AND late > 0 AND lane = 1)"
            " LIMIT 1"
        )
    client.command(change)

    lines = told(run(client))
    assert wanted == [line[2:5] for line in lines]
    assert {State.REPAIRED} == {line[5] for line in lines}
    assert facts_as_cells(client) == cells_as_read(client)
    worker.take(told_at(17, hours=28), told_at(18))
    worker.take(told_at(19), part=1)
    assert facts_as_cells(client) == cells_as_read(client)
    assert run(client, Wish()).is_well


def test_a_fact_of_this_moment_may_have_its_row_on_the_way(client: Client, worker: Worker) -> None:
    """A repair by the fact alone would count it twice, once its row is there."""
    newest = told_at(11)._replace(recorded_ms=NOW_MS - 60_000)
    saved = worker.saved()
    worker.take(newest)
    client.command(f"DELETE FROM rollup_1m_lanes WHERE {PROFILES} AND late > 0")

    assert [(OLD_S, 0, "n", 3, 2, State.OPEN)] == told(run(client))
    worker.killed(saved)
    worker.take(newest)
    assert facts_as_cells(client) == cells_as_read(client)
    assert run(client).is_well


def test_a_table_of_before_takes_late_profiles_once_it_is_migrated(
    clickhouse_service: ClickHouseService, clickhouse_database: str
) -> None:
    """The upgrade: rows of an earlier release stay those of cells."""
    address = ClickHouseAddress(clickhouse_service.dsn, clickhouse_database)
    client = connect(address, create_database=True, tries=2)
    migrations = read_migrations(MIGRATIONS)
    [apart] = [one.number for one in migrations if one.name.endswith("late_profiles_apart.sql")]
    apply_migrations(client, migrations)
    worker = Worker(client)
    in_time(worker)
    rows = client.query("SELECT * EXCEPT late FROM rollup_1m_lanes").result_rows
    names = client.query("SELECT * EXCEPT late FROM rollup_1m_lanes LIMIT 0").column_names
    client.command("DROP TABLE rollup_1m_lanes SYNC")
    client.command("TRUNCATE TABLE migrations")
    apply_migrations(client, migrations[: apart - 1])
    client.insert("rollup_1m_lanes", rows, column_names=list(names))
    before = cells_as_read(client)

    apply_migrations(client, migrations)
    assert before == cells_as_read(client) == facts_as_cells(client)
    late(worker)
    assert facts_as_cells(client) == cells_as_read(client)
    assert run(client, Wish()).is_well
    client.close()
