"""Metrics on a running ClickHouse: each equals what a world truly did, whatever it is asked by."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC
from math import isclose
from random import Random
from statistics import median_low
from typing import Any, NamedTuple

import pytest
from clickhouse_connect.driver.client import Client

from connectors.clickhouse.client import ClickHouseAddress, connect
from connectors.clickhouse.migrations import apply_migrations, read_migrations
from connectors.clickhouse.writer import TableWriter
from flows.ingest import make_checker, make_gate, read_policy
from flows.journey.make import make_step
from flows.places import MIGRATIONS
from flows.query.ask import answer
from flows.query.compile import Question, compile_question
from flows.simulate.events import Event
from flows.simulate.world import World
from schemas.errors import ConfigError
from schemas.metrics import load_catalog
from tests.services import ClickHouseService
from tests.unit.flows.memory_run import LANES, MemoryRun

pytestmark = pytest.mark.clickhouse

SEEDS = range(10)
COSTS = {"email": 0.5, "sms": 4.5, "push": 0.25}
END_MS = 1_800_000_000_000
ALL_TIME = {"since_s": 0, "until_s": 2_000_000_000}
DAY_MS = 86_400_000


class Told(NamedTuple):
    """One journey as it truly went: its events in order of time."""

    events: list[Event]

    def has(self, word: str, *, machine: bool | None = None) -> bool:
        return bool(self.times(word, machine=machine))

    def times(self, word: str, *, machine: bool | None = None) -> list[int]:
        return [
            event.time_ms
            for event in self.events
            if event.label.type == f"ntf.{word}.v1"
            and (machine is None or event.body.get("machine", False) is machine)
        ]

    def money(self, word: str, currency: str) -> int:
        return sum(
            int(event.body["amount_minor"])
            for event in self.events
            if event.label.type == f"ntf.{word}.v1" and event.body["currency"] == currency
        )

    @property
    def channel(self) -> str:
        channels = [event.body["channel"] for event in self.events if event.body.get("channel")]
        return str(channels[-1]) if channels else ""

    @property
    def campaign(self) -> str:
        return str(self.events[0].body["campaign"])

    def within(self, base: str, other: str, span_ms: int) -> bool:
        first = self.times(base)[0]
        machine = False if other == "engagement.opened" else None
        return any(first <= at <= first + span_ms for at in self.times(other, machine=machine))


def truth_of(run: MemoryRun) -> list[Told]:
    found: dict[str, list[Event]] = defaultdict(list)
    for message, _, _ in run.sent:
        event = message.event
        if event is not None and event.subject and not event.label.type.startswith("ntf.profile."):
            found[event.journey].append(event)
    return [Told(sorted(some, key=lambda event: event.time_ms)) for some in found.values()]


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
        asked = {**ALL_TIME, "currency": self.currency, "costs": COSTS, **more}
        query = compile_question(load_catalog(), Question(metrics, **asked))
        names = (*query.keys, *query.metrics)
        return [dict(zip(names, line, strict=True)) for line in answer(self.client, query)]


@pytest.fixture(scope="module", params=SEEDS)
def case(request: pytest.FixtureRequest, clickhouse_service: ClickHouseService) -> Iterator[Case]:
    seed = request.param
    run = MemoryRun(World(seed, total=2_500, end_ms=END_MS + seed * 7_654_321, people=150))
    address = ClickHouseAddress(clickhouse_service.dsn, f"query_{seed}")
    client = connect(address, create_database=True)
    apply_migrations(client, read_migrations(MIGRATIONS))
    write_world(client, run, seed)
    paid = [
        event.body["currency"]
        for story in truth_of(run)
        for event in story.events
        if "payment_received" in event.label.type
    ]
    yield Case(client, truth_of(run), run, max(paid, key=paid.count) if paid else "EUR")
    client.command("DROP DATABASE {name:Identifier} SYNC", parameters={"name": address.database})
    client.close()


def has(word: str, *, machine: bool | None = None) -> Callable[[Told], bool]:
    return lambda story: story.has(word, machine=machine)


CONVERTED = ("outcome.registered", "outcome.payment_received", "outcome.converted")
COUNTS: Mapping[str, Callable[[Told], bool]] = {
    "journeys": lambda _: True,
    "sent": has("delivery.sent"),
    "delivered": has("delivery.delivered"),
    "bounced": has("delivery.bounced"),
    "suppressed": has("orchestration.suppressed"),
    "opened": has("engagement.opened", machine=False),
    "opened_by_machine": has("engagement.opened", machine=True),
    "clicked": has("engagement.clicked", machine=False),
    "converted": lambda story: any(story.has(word) for word in CONVERTED),
    "unsubscribed": has("engagement.unsubscribed"),
    "complained": has("engagement.complained"),
}
RATIOS = {
    "delivery_rate": ("delivered", "sent"),
    "bounce_rate": ("bounced", "sent"),
    "open_rate": ("opened", "delivered"),
    "click_rate": ("clicked", "delivered"),
    "click_to_open": ("clicked", "opened"),
    "conversion_rate": ("converted", "delivered"),
    "unsubscribe_rate": ("unsubscribed", "delivered"),
    "complaint_rate": ("complained", "delivered"),
}


def truth(stories: list[Told], currency: str) -> dict[str, float | None]:
    """Every metric of journeys, in plain arithmetic."""
    found: dict[str, float | None] = {
        name: sum(test(story) for story in stories) for name, test in COUNTS.items()
    }
    counts = dict(found)

    def share(above: float | None, below: float | None) -> float | None:
        return above / below if below and above is not None else None

    found |= {name: share(counts[a], counts[b]) for name, (a, b) in RATIOS.items()}
    paid = sum(story.money("outcome.payment_received", currency) for story in stories)
    back = sum(story.money("outcome.refunded", currency) for story in stories)
    sends = [(len(story.times("delivery.sent")), story.channel) for story in stories]
    found["messages"] = sum(n for n, _ in sends)
    revenue, cost = paid - back, sum(n * COSTS.get(channel, 0.0) for n, channel in sends)
    found |= {"revenue": revenue, "cost": cost, "profit": revenue - cost}
    found["revenue_per_1k"] = share(revenue * 1_000, counts["sent"])
    found["cost_per_conversion"] = share(cost, counts["converted"])
    found["roi"] = share(revenue - cost, cost)
    reached = [story for story in stories if story.has("delivery.delivered")]
    for name, other, span in (
        ("open_within_1d", "engagement.opened", DAY_MS),
        ("paid_within_7d", "outcome.payment_received", 7 * DAY_MS),
    ):
        hits = sum(story.within("delivery.delivered", other, span) for story in reached)
        found[name] = share(hits, len(reached))
    return found


def alike(found: float | None, wanted: float | None) -> bool:
    if found is None or wanted is None or found != found:  # noqa: PLR0124 - not a number
        return (found is None or found != found) and wanted is None  # noqa: PLR0124 - the same
    return isclose(found, wanted, rel_tol=1e-9, abs_tol=1e-9)


def test_every_metric_of_journeys_equals_the_truth(case: Case) -> None:
    wanted = truth(case.stories, case.currency)
    [found] = case.ask(*wanted)

    assert {} == {
        name: (found[name], value)
        for name, value in wanted.items()
        if not alike(found[name], value)
    }


def test_metrics_by_campaign_are_those_of_each_campaign(case: Case) -> None:
    names = ("sent", "open_rate", "revenue", "cost")
    by_campaign: dict[str, list[Told]] = defaultdict(list)
    for story in case.stories:
        by_campaign[story.campaign].append(story)

    found = {line["campaign"]: line for line in case.ask(*names, by=("campaign",))}

    assert set(by_campaign) == set(found)
    for campaign, stories in by_campaign.items():
        wanted = truth(stories, case.currency)
        assert all(alike(found[campaign][name], wanted[name]) for name in names)
        [alone] = case.ask(*names, where={"campaign": campaign})
        assert all(alike(alone[name], found[campaign][name]) for name in names)


def test_a_day_counts_the_journeys_that_started_in_it(case: Case) -> None:
    days: dict[int, int] = defaultdict(int)
    for story in case.stories:
        days[story.events[0].time_ms // DAY_MS] += 1

    lines = case.ask("journeys", grain="day")

    assert days == {
        int(line["t"].replace(tzinfo=UTC).timestamp()) // 86_400: line["journeys"] for line in lines
    }
    first = min(days)
    [line] = case.ask("journeys", since_s=first * 86_400, until_s=(first + 1) * 86_400)
    assert days[first] == line["journeys"]


def test_running_sums_add_up_hour_by_hour(case: Case) -> None:
    hours: dict[int, list[Told]] = defaultdict(list)
    for story in case.stories:
        hours[story.events[0].time_ms // 3_600_000].append(story)
    so_far, wanted = 0.0, {}
    for hour in sorted(hours):
        values = truth(hours[hour], case.currency)
        so_far += values["revenue"] or 0
        wanted[hour] = so_far

    lines = case.ask("revenue_so_far", "sent_7d", grain="hour")

    found = {int(line["t"].replace(tzinfo=UTC).timestamp()) // 3_600: line for line in lines}
    assert wanted == {hour: line["revenue_so_far"] for hour, line in found.items()}
    last = max(found)
    recent = [story for hour, part in hours.items() if hour > last - 168 for story in part]
    assert truth(recent, case.currency)["sent"] == found[last]["sent_7d"]
    cut = case.ask("revenue_so_far", grain="hour", since_s=last * 3_600)
    assert [wanted[last]] == [line["revenue_so_far"] for line in cut]


def test_time_to_engage_is_that_of_people(case: Case) -> None:
    waits = [
        (story.times("engagement.opened", machine=False)[0] - story.times("delivery.delivered")[0])
        / 1_000
        for story in case.stories
        if story.has("engagement.opened", machine=False) and story.has("delivery.delivered")
    ]
    [line] = case.ask("time_to_engage_p50", "time_to_engage_p95")

    assert median_low(waits) <= line["time_to_engage_p50"] <= sorted(waits)[len(waits) // 2]
    assert sum(wait <= line["time_to_engage_p95"] for wait in waits) >= 0.95 * len(waits)


def test_events_are_counted_when_they_happened(case: Case) -> None:
    events = [m.event for m, _, _ in case.run.sent if m.event is not None]
    by_type: dict[str, int] = defaultdict(int)
    for event in events:
        by_type[event.label.type] += 1
    found = {line["event_type"]: line["events"] for line in case.ask("events", by=("event_type",))}
    paid = sum(
        event.body["amount_minor"]
        for event in events
        if "payment_received" in event.label.type and event.body["currency"] == case.currency
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
