"""Metrics on a running ClickHouse: each equals what a world truly did, whatever it is asked by."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC
from random import Random
from typing import Any, NamedTuple

import pytest
from clickhouse_connect.driver.client import Client

from connectors.clickhouse.client import ClickHouseAddress, connect
from connectors.clickhouse.migrations import apply_migrations, read_migrations
from connectors.clickhouse.writer import TableWriter
from flows.ingest import make_checker, make_gate, read_policy
from flows.journey.make import make_step
from flows.places import MIGRATIONS
from flows.query.compile import Question, compile_question
from flows.simulate.world import World
from schemas.errors import ConfigError
from schemas.metrics import load_catalog
from tests.metrics_truth import (
    ALL_TIME,
    DAY_MS,
    PAYMENT,
    Told,
    alike,
    ask,
    compare,
    currency_of,
    hour_of,
    of_journeys,
    stories_of,
)
from tests.services import ClickHouseService
from tests.unit.flows.memory_run import LANES, MemoryRun

pytestmark = pytest.mark.clickhouse

SEEDS = range(10)
END_MS = 1_800_000_000_000


def write_world(client: Client, run: MemoryRun, seed: int) -> None:
    """Everything that gates and followers make of a world, through the writer of the product."""
    writer = TableWriter(client, rows_max=50_000)
    policy = read_policy(run.settings)
    checker = make_checker(run.settings, policy)
    gates = [make_gate(run.settings, policy, followed=True) for _ in range(LANES)]
    followers = [make_step(run.settings).make() for _ in range(LANES)]
    for block in run.as_read(Random(seed), messages_max=600):
        outputs = gates[block.lane].pass_block(checker.check(block))
        rows = list(outputs.rows)
        if outputs.accepted is not None:
            rows += followers[block.lane].follow(outputs.accepted).rows
        for part in rows:
            writer.add(part)
    writer.flush()


class Case(NamedTuple):
    """One world in its tables, and its truth."""

    client: Client
    stories: list[Told]
    run: MemoryRun
    currency: str

    def ask(self, *metrics: str, **more: Any) -> list[dict[str, Any]]:
        return ask(self.client, self.currency, *metrics, **more)


@pytest.fixture(scope="module", params=SEEDS)
def case(request: pytest.FixtureRequest, clickhouse_service: ClickHouseService) -> Iterator[Case]:
    seed = request.param
    run = MemoryRun(World(seed, total=2_500, end_ms=END_MS + seed * 7_654_321, people=150))
    address = ClickHouseAddress(clickhouse_service.dsn, f"query_{seed}")
    client = connect(address, create_database=True)
    apply_migrations(client, read_migrations(MIGRATIONS))
    write_world(client, run, seed)
    stories = stories_of(run.truth)
    yield Case(client, stories, run, currency_of(stories))
    client.command("DROP DATABASE {name:Identifier} SYNC", parameters={"name": address.database})
    client.close()


def test_every_metric_of_the_catalog_equals_the_truth(case: Case) -> None:
    compared = compare(case.client, case.run.truth)

    assert [] == compared.differing
    assert set(load_catalog().by_name) == compared.metrics
    assert compared.values > 100


def test_metrics_by_campaign_are_those_of_each_campaign(case: Case) -> None:
    names = ("sent", "open_rate", "revenue", "cost")
    by_campaign: dict[str, list[Told]] = defaultdict(list)
    for story in case.stories:
        by_campaign[story.campaign].append(story)

    found = {line["campaign"]: line for line in case.ask(*names, by=("campaign",))}

    assert set(by_campaign) == set(found)
    for campaign, stories in by_campaign.items():
        wanted = of_journeys(stories, case.currency)
        assert all(alike(found[campaign][name], wanted[name]) for name in names)
        [alone] = case.ask(*names, where={"campaign": campaign})
        assert all(alike(alone[name], found[campaign][name]) for name in names)


def test_a_day_counts_the_journeys_that_started_in_it(case: Case) -> None:
    days: dict[int, int] = defaultdict(int)
    for story in case.stories:
        days[story.events[0].at // DAY_MS] += 1

    lines = case.ask("journeys", grain="day")

    assert days == {
        int(line["t"].replace(tzinfo=UTC).timestamp()) // 86_400: line["journeys"] for line in lines
    }
    first = min(days)
    [line] = case.ask("journeys", since_s=first * 86_400, until_s=(first + 1) * 86_400)
    assert days[first] == line["journeys"]


def test_running_sums_reach_back_before_the_time_that_is_asked_for(case: Case) -> None:
    lines = case.ask("revenue_so_far", grain="hour")

    cut = case.ask("revenue_so_far", grain="hour", since_s=hour_of(lines[-1]) * 3_600)

    assert lines[-1:] == cut


def test_events_are_counted_when_they_happened(case: Case) -> None:
    events = [m.event for m, _, _ in case.run.sent if m.event is not None]
    by_type: dict[str, int] = defaultdict(int)
    for event in events:
        by_type[event.label.type] += 1
    found = {line["event_type"]: line["events"] for line in case.ask("events", by=("event_type",))}
    paid = sum(
        event.body["amount_minor"]
        for event in events
        if PAYMENT in event.label.type and event.body["currency"] == case.currency
    )

    assert by_type == found
    assert [{"paid_amount": paid}] == case.ask("paid_amount")


def test_metrics_of_two_tables_stand_in_one_line(case: Case) -> None:
    lines = case.ask("journeys", "events", by=("campaign",))
    [whole] = case.ask("journeys", "events")

    assert whole["journeys"] == sum(line["journeys"] for line in lines) == len(case.stories)
    assert whole["events"] == sum(line["events"] for line in lines)


def test_a_role_that_may_not_see_small_groups_does_not(case: Case) -> None:
    people: dict[tuple[str, str], set[str]] = defaultdict(set)
    for story in case.stories:
        people[story.campaign, story.channel].add(story.events[0].subject)
    least = sorted(len(some) for some in people.values())[len(people) // 2]

    lines = case.ask("sent", "open_rate", by=("campaign", "channel"), k=least)

    assert {key for key, some in people.items() if len(some) >= least} == {
        (line["campaign"], line["channel"]) for line in lines
    }
    assert len(lines) < len(people)


def test_what_cannot_be_asked_is_said(case: Case) -> None:
    for more, says in (
        ({"metrics": ("open_rat",)}, "expected open_rate"),
        ({"by": ("campain",)}, "expected campaign"),
        ({"by": ("event_type",)}, "no such name"),
        ({"grain": "fortnight"}, "no such name"),
        ({"metrics": ("revenue",), "currency": ""}, "--currency"),
        ({"metrics": ("sent_7d",)}, "--grain"),
        ({"metrics": ("events",), "k": 10}, "no count of people"),
    ):
        asked: dict[str, Any] = {"metrics": ("sent",), **ALL_TIME, **more}
        with pytest.raises(ConfigError, match=says):
            compile_question(load_catalog(), Question(**asked))


def test_a_value_of_the_asker_never_becomes_sql(case: Case) -> None:
    evil = "x'; DROP TABLE journeys; --"

    [line] = case.ask("journeys", where={"campaign": evil})

    assert 0 == line["journeys"]
    assert case.ask("journeys")[0]["journeys"]
