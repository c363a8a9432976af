"""Journeys in a running ClickHouse: what the views say is what the rows say, counted here."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client

from connectors.clickhouse.client import ClickHouseAddress
from connectors.clickhouse.writer import TableWriter
from flows.journey.increment import PEOPLE_SQL, increments
from flows.model.evidence.compare import Plan
from flows.simulate import World
from flows.verify import verify
from flows.verify_journeys import check_journeys, check_outcomes
from schemas.blocks import Followed, Outputs
from schemas.rollup import bucket_of
from tests.journeys_run import JourneyRun
from tests.reconcile_world import open_tables
from tests.services import ClickHouseService

END_MS = 1_800_000_000_000
PLANS = {"conversions": Plan(), "revenue": Plan(interest=50.0)}


class StoredRun(JourneyRun):
    """A run whose rows go to ClickHouse, twice as after a crash."""

    writer: TableWriter

    def _keep(self, outputs: Outputs) -> None:
        super()._keep(outputs)
        for rows in (*outputs.rows, *outputs.rows):
            self.writer.add(rows)

    def _keep_followed(self, followed: Followed) -> None:
        super()._keep_followed(followed)
        for rows in followed.rows:
            self.writer.add(rows)


@pytest.fixture(scope="module")
def stored(clickhouse_service: ClickHouseService) -> Iterator[tuple[StoredRun, Client]]:
    client = open_tables(ClickHouseAddress(clickhouse_service.dsn, "journey_views"))
    run = StoredRun(World(11, total=4_000, end_ms=END_MS, people=150))
    run.writer = TableWriter(client)
    blocks = list(run.as_read(Random(11)))
    run.follow(blocks, kill_every=40)
    run.writer.flush()
    yield run, client
    client.command("DROP DATABASE journey_views")
    client.close()


def rows(client: Client, sql: str, **parameters: Any) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in client.query(sql, parameters=parameters).result_rows]


def test_stored_journeys_and_outcomes_are_the_true_ones(stored: tuple[StoredRun, Client]) -> None:
    run, client = stored
    said: list[str] = []

    def read(sql: str) -> Iterator[tuple[Any, ...]]:
        table = client.query_arrow(sql, use_strings=True)
        return zip(*(column.to_pylist() for column in table.columns), strict=True)

    count = check_journeys(run.truth, read, lambda _, what: said.append(what))
    lines = check_outcomes(
        run.truth, read, lambda _, what: said.append(what), window_ms=604_800_000
    )

    assert ([], len(run.truth.journeys)) == (said, count)
    assert lines > 100
    assert 0 == verify(run.truth, client, copies=run.copies).mismatches


def test_latencies_between_stages_are_those_of_the_journeys(
    stored: tuple[StoredRun, Client],
) -> None:
    run, client = stored
    wanted: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0] * 32)
    for found in run.truth.journeys.values():
        first: dict[str, int] = {}
        for one in sorted(found, key=lambda one: one.at):
            first.setdefault(one.act, one.at)
        for pair in (
            ("request.created", "delivery.sent"),
            ("delivery.delivered", "engagement.opened"),
        ):
            if first.keys() >= set(pair):
                wanted[pair][bucket_of(first[pair[1]] - first[pair[0]])] += 1

    told = {
        (one, other): list(histogram)
        for one, other, histogram in rows(
            client,
            "SELECT from_act, to_act, sumForEach(latency_hist) FROM stage_latency_1h"
            " GROUP BY from_act, to_act",
        )
    }
    assert wanted == {pair: told[pair] for pair in wanted}
    for n, histogram, percentiles in rows(
        client, "SELECT n, latency_hist, percentiles_ms FROM stage_latency"
    ):
        assert n == sum(histogram)
        for share, value in zip((0.5, 0.95, 0.99), percentiles, strict=True):
            below = sum(count for low, high, count in edges(histogram) if high < value)
            not_above = sum(count for low, high, count in edges(histogram) if low <= value)
            assert below <= share * n + 1e-9
            assert not_above >= share * n - 1e-9


def edges(histogram: list[int]) -> list[tuple[float, float, int]]:
    """Each bucket from where to where, and how many are in it."""
    rest = [(2.0 ** (place - 1), 2.0**place, count) for place, count in enumerate(histogram)]
    return [(0.0, 0.0, histogram[0]), *rest[1:]]


def test_hours_and_days_are_the_facts_whatever_was_written_twice(
    stored: tuple[StoredRun, Client],
) -> None:
    _, client = stored
    for view, start in (("rollup_1h", "toStartOfHour"), ("rollup_1d", "toStartOfDay")):
        dimensions = "event_type, campaign, channel, arm, class, currency"
        told = rows(
            client,
            f"SELECT toUnixTimestamp(w), {dimensions}, n, amount_minor FROM {view} ORDER BY ALL",
        )
        facts = rows(
            client,
            f"SELECT toUnixTimestamp({start}(event_time)) AS w, {dimensions}, count(),"
            f" sum(amount_minor) FROM facts FINAL GROUP BY ALL ORDER BY ALL",
        )

        assert facts == told
        assert {"a", "b", ""} == {row[4] for row in told}


def test_people_are_counted_once_and_small_groups_are_not_shown(
    stored: tuple[StoredRun, Client],
) -> None:
    run, client = stored
    people: dict[tuple[Any, ...], set[str]] = defaultdict(set)
    for fact in run.truth.facts.values():
        key = (fact.event_time // 3_600_000 * 3_600, fact.event_type, fact.campaign, fact.channel)
        people[(*key, fact.arm, fact.class_text)].add(fact.subject)
    wanted = {key: len(found - {""}) for key, found in people.items() if found - {""}}
    columns = "toUnixTimestamp(w), event_type, campaign, channel, arm, class"

    told = rows(client, f"SELECT {columns}, uniqCombined64Merge(people) FROM uniq_1h GROUP BY ALL")
    assert wanted == {row[:-1]: row[-1] for row in told}

    everything = rows(client, f"SELECT {columns} FROM rollup_1h_of_groups(k=0)")
    groups = rows(client, f"SELECT {columns}, people FROM rollup_1h_of_groups(k=4)")
    assert set(people) == set(everything)
    assert {key for key in people if wanted.get(key, 4) >= 4} == {row[:-1] for row in groups}
    assert 0 < len(groups) < len(everything)


def test_the_increment_is_asked_by_person_and_arm(stored: tuple[StoredRun, Client]) -> None:
    run, client = stored
    given = {"since_s": 0, "until_s": 2_000_000_000, "campaign": "", "currency": "EUR"}
    lines = rows(client, PEOPLE_SQL, **given)
    counts: Counter[bool] = Counter()
    for journey in run.wanted().values():
        counts[journey.arm == "holdout"] += 1

    asked: Counter[bool] = Counter()
    for held_out, journeys, *_ in lines:
        asked[bool(held_out)] += journeys
    conversions, revenue = increments(lines, PLANS)
    assert counts == asked
    assert ("conversions", "collecting") == (conversions.figure, conversions.state)
    paid = sum(
        one.amount_minor - one.refunded_minor
        for one in run.wanted().values()
        if one.currency == "EUR" and one.arm != "holdout"
    )
    assert pytest.approx(1_000 * paid / counts[False]) == revenue.told
