"""Reconciliation of journeys and outcomes: rows that are broken are found, and mended or told."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from clickhouse_connect.driver.client import Client

from connectors.clickhouse.client import ClickHouseAddress, connect
from flows.reconcile.findings import Report, State
from flows.reconcile.job import ClickHouseStore, Wish, reconcile
from flows.simulate.world import World
from tests.integration.test_query import write_world
from tests.reconcile_world import BOUNDS, REPAIR
from tests.unit.flows.memory_run import LANES, MemoryRun

pytestmark = pytest.mark.clickhouse

END_MS = 1_800_000_000_000
NOW_MS = END_MS + 3_600_000
UNSURE = ("engagement.opened", "engagement.clicked", "orchestration.variant_assigned")
PLAIN = " AND ".join(f"NOT arrayExists(act -> act LIKE '{act}%', acts)" for act in UNSURE)
ASSIGNED = "has(acts, 'orchestration.variant_assigned') AND propensity > 0"
ALL = """SELECT * EXCEPT expires_at FROM journeys FINAL ORDER BY journey"""
ALL_OUTCOMES = """SELECT * FROM outcomes FINAL ORDER BY outcome_id, model, slot"""


@pytest.fixture
def client(clickhouse_tables: ClickHouseAddress) -> Iterator[Client]:
    opened = connect(clickhouse_tables)
    write_world(opened, MemoryRun(World(5, total=1_500, end_ms=END_MS, people=120)), 5)
    yield opened
    opened.close()


def run(client: Client, wish: Wish = REPAIR, *, now_ms: int = NOW_MS) -> Report:
    bounds = msgspec.structs.replace(BOUNDS, lanes=LANES)
    return reconcile(ClickHouseStore(client, retry_s_max=10.0), wish, bounds, now_ms=now_ms)


def found(report: Report) -> list[tuple[Any, ...]]:
    return [(one.table, one.what, one.state) for one in report.journey_findings]


def rows(client: Client, query: str) -> list[Any]:
    return list(client.query(query).result_rows)


def one(client: Client, test: str) -> str:
    """A journey with some events, chosen by name so that it is the same each time."""
    query = f"SELECT journey FROM journeys FINAL WHERE n > 3 AND {test} ORDER BY journey LIMIT 1"
    return str(client.query(query).result_rows[0][0])


def write_again(client: Client, journey: str, changes: str) -> None:
    client.command(
        f"INSERT INTO journeys SELECT * REPLACE ({changes})"
        f" FROM (SELECT * FROM journeys FINAL WHERE journey = '{journey}')"
    )


def test_what_the_flow_wrote_is_what_the_facts_say(client: Client) -> None:
    report = run(client)

    assert [] == found(report)
    assert report.is_well
    assert rows(client, "SELECT count() FROM journeys FINAL") == [(report.journeys.compared,)]
    ids = "SELECT uniqExact(outcome_id) FROM outcomes FINAL"
    assert rows(client, ids) == [(report.outcomes.compared,)]
    assert 50 < report.journeys.compared
    scopes = "SELECT scope FROM reconciliations FINAL ORDER BY scope"
    names = ["books", "hours", "journeys", "minutes", "outcomes"]
    assert names == [scope for (scope,) in rows(client, scopes)]


def test_broken_rows_are_told_and_then_mended(client: Client) -> None:
    before = rows(client, ALL)
    gone, other = (one(client, f"{PLAIN} AND n % 2 = {left}") for left in range(2))
    client.command(f"DELETE FROM journeys WHERE journey = '{gone}'")
    write_again(client, other, "'elsewhere' AS campaign, 7 AS amount_minor, true AS clicked")
    assert before != rows(client, ALL)

    told = run(client, Wish())
    assert {("journeys", "no row", State.CLOSED)} | {
        ("journeys", "campaign, amount_minor, clicked", State.CLOSED)
    } == set(found(told))
    assert (2, 0, 2) == (told.journeys.differing, told.journeys.repaired, told.journeys.remaining)
    assert not told.is_well

    mended = run(client)
    assert (2, 2, 0) == (
        mended.journeys.differing,
        mended.journeys.repaired,
        mended.journeys.remaining,
    )
    assert before == rows(client, ALL)
    assert [] == found(run(client))


def test_a_row_keeps_the_odds_that_no_fact_tells(client: Client) -> None:
    before = rows(client, ALL)
    write_again(client, one(client, ASSIGNED), "'' AS arm, '' AS channel")

    assert [("journeys", "channel, arm", State.REPAIRED)] == found(run(client))

    assert before == rows(client, ALL)


def test_a_lost_row_of_which_the_flow_alone_knows_the_odds_is_told_and_not_made_up(
    client: Client,
) -> None:
    lost = one(client, ASSIGNED)
    client.command(f"DELETE FROM journeys WHERE journey = '{lost}'")

    report = run(client)

    assert ("journeys", "no row", State.IN_FLOW) in found(report)
    assert 0 < report.journeys.remaining
    assert [] == rows(client, f"SELECT journey FROM journeys FINAL WHERE journey = '{lost}'")


def test_facts_that_are_gone_take_no_event_from_a_journey(client: Client) -> None:
    before = rows(client, ALL)
    poor = one(client, PLAIN)
    client.command(f"DELETE FROM facts WHERE journey = '{poor}' AND event_type LIKE '%created%'")

    [(table, what, state)] = found(run(client))

    assert ("journeys", State.CLOSED) == (table, state)
    assert "n, " in what
    assert before == rows(client, ALL)


def test_a_row_that_its_newest_facts_are_on_their_way_to_is_open(client: Client) -> None:
    late = one(client, PLAIN)
    client.command(f"DELETE FROM journeys WHERE journey = '{late}'")
    newest = f"SELECT toUnixTimestamp64Milli(max(recorded_at)) FROM facts WHERE journey = '{late}'"
    [(at_ms,)] = rows(client, newest)

    report = run(client, now_ms=at_ms + 60_000)

    assert ("journeys", "no row", State.OPEN) in found(report)


def test_a_reaction_without_its_row_is_mended_and_a_result_is_told(client: Client) -> None:
    before = rows(client, ALL_OUTCOMES)
    for kind in ("clicked", "payment_received"):
        client.command(
            "DELETE FROM outcomes WHERE outcome_id ="
            f" (SELECT min(outcome_id) FROM outcomes WHERE kind = '{kind}')"
        )
    client.command(
        "INSERT INTO outcomes SELECT * REPLACE (0.25 AS weight) FROM (SELECT * FROM outcomes FINAL"
        " WHERE model = 'linear' AND kind != 'payment_received' ORDER BY outcome_id LIMIT 1)"
    )

    report = run(client)

    assert ("outcomes", "no row of engagement.clicked", State.REPAIRED) in found(report)
    assert ("outcomes", "no row of outcome.payment_received", State.IN_FLOW) in found(report)
    assert ("outcomes", "weight", State.IN_FLOW) in found(report)
    assert (3, 1, 2) == (
        report.outcomes.differing,
        report.outcomes.repaired,
        report.outcomes.remaining,
    )
    again = rows(client, ALL_OUTCOMES)
    assert [row for row in before if row[3] == "clicked"] == [
        row for row in again if row[3] == "clicked"
    ]
