"""How long rows are kept: by the policy where they are about people, for a fixed time elsewhere."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from clickhouse_connect.driver.client import Client

from tests.integration.test_journey_views import StoredRun, rows, stored
from tests.process_logs import fresh_database
from tests.services import ClickHouseService

__all__ = ["stored"]

pytestmark = pytest.mark.clickhouse

KEPT = {
    "experiments": "a plan is kept with its verdict",
    "fates": "the books: counts, nothing of a message",
    "lineage_edges": "a row for each edge and lane, bounded by the follower",
    "migrations": "which migrations were applied",
    "rollup_floors": "a row for each lane",
}
"""Tables without an end, and why; none is about people."""

ABOUT_PEOPLE = """SELECT DISTINCT table FROM system.columns
WHERE database = currentDatabase() AND name IN ('subject', 'people')
AND table IN (SELECT name FROM system.tables
    WHERE database = currentDatabase() AND engine LIKE '%MergeTree') ORDER BY table"""

ENDS = """SELECT name, extract(create_table_query, ' TTL (.*) SETTINGS ') FROM system.tables
WHERE database = currentDatabase() AND engine LIKE '%MergeTree' ORDER BY name"""


@pytest.fixture(scope="module")
def client(clickhouse_service: ClickHouseService) -> Iterator[Client]:
    client = fresh_database(clickhouse_service.dsn, "retention")
    yield client
    client.command("DROP DATABASE retention SYNC")
    client.close()


def people_tables(client: Client) -> list[str]:
    return [table for (table,) in rows(client, ABOUT_PEOPLE)]


def test_each_table_has_an_end_or_a_reason_to_have_none(client: Client) -> None:
    ends = dict(rows(client, ENDS))

    assert set(KEPT) == {name for name, end in ends.items() if not end}
    about_people = people_tables(client)
    assert {"facts", "journeys", "outcomes", "decisions", "process_exceptions"} <= set(about_people)
    assert {"expires_at"} == {ends[name] for name in about_people}


def test_a_row_about_a_person_goes_when_its_time_is_over(client: Client) -> None:
    for table in people_tables(client):
        for day in ("2020-01-01", "2100-01-01"):
            client.command(
                "INSERT INTO {table:Identifier} (expires_at) VALUES ({day:String})",
                parameters={"table": table, "day": day},
                settings={"async_insert": 0},
            )
        client.command("OPTIMIZE TABLE {table:Identifier} FINAL", parameters={"table": table})
        left = rows(
            client,
            "SELECT toString(expires_at) FROM {table:Identifier}",
            table=table,
        )

        assert [("2100-01-01",)] == left, table


@pytest.mark.parametrize("table", ["journeys", "process_exceptions", "outcomes"])
def test_what_is_made_of_events_goes_with_the_first_of_them(
    stored: tuple[StoredRun, Client], table: str
) -> None:
    """A row is kept no longer than the fact of its journey that the policy keeps shortest."""
    _, client = stored
    lines = rows(
        client,
        """SELECT count(), countIf(one.expires_at < whole.first),
            countIf(one.expires_at > whole.last), countIf(one.expires_at != whole.first)
        FROM (SELECT * FROM {table:Identifier} FINAL) AS one
        JOIN (
            SELECT journey, min(expires_at) AS first, max(expires_at) AS last
            FROM facts FINAL GROUP BY journey
        ) AS whole ON one.journey = whole.journey""",
        table=table,
    )

    [(count, sooner, later, apart)] = lines
    assert count > 0
    assert (0, 0) == (sooner, later)
    assert 0 == apart or table != "journeys"
