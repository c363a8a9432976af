"""The counts of quality equal what truly was wrong with a simulated world, to the message."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from flows.simulate import World
from schemas.quality import load_quality
from tests.quality_run import Counts, QualityRun, StrictRun
from tests.unit.flows.memory_run import END_MS

SEEDS = range(5)
RULES = {rule.name: rule for rule in load_quality().rules}


@pytest.fixture(scope="module", params=SEEDS)
def run(request: pytest.FixtureRequest) -> QualityRun:
    seed = request.param
    found = QualityRun(World(seed, total=1_500, end_ms=END_MS, people=120))
    found.follow(found.as_read(Random(seed), messages_max=300))
    return found


def test_each_refusal_counts_once_for_its_producer_and_rule(run: QualityRun) -> None:
    wanted: Counts = Counter()
    for dataset, producer, message in run.messages():
        for rule in RULES.values():
            if rule.codes and any(message.code.startswith(part) for part in rule.codes):
                wanted[dataset, producer, rule.name] += 1

    found = run.found("failed")

    assert {rule for _, _, rule in wanted} >= {"ticket_right", "words_known", "body_right"}
    assert wanted == Counter({key: n for key, n in found.items() if RULES[key[2]].codes})


def test_every_message_is_checked_once_by_each_rule_of_refusals(run: QualityRun) -> None:
    wanted: Counts = Counter()
    for dataset, producer, _ in run.messages():
        for rule in RULES.values():
            if rule.codes is not None:
                wanted[dataset, producer, rule.name] += 1

    found = run.found("checked")

    assert wanted == Counter({k: n for k, n in found.items() if RULES[k[2]].codes is not None})


def test_missing_fields_and_delays_are_those_of_the_accepted_events(run: QualityRun) -> None:
    wanted: Counts = Counter()
    for dataset, producer, message in run.messages():
        event = message.event
        if event is None:
            continue
        for rule in RULES.values():
            if not rule.is_of(dataset, event.label.type):
                continue
            late = rule.delay_s and message.timestamp_ms - event.time_ms > rule.delay_s * 1_000
            if late or (rule.missing and not event.body.get(rule.missing)):
                wanted[dataset, producer, rule.name] += 1

    kinds = {rule.name for rule in RULES.values() if rule.delay_s or rule.missing}
    found = run.found("failed")

    assert wanted == Counter({key: n for key, n in found.items() if key[2] in kinds})


def test_delivered_without_sent_is_what_never_was_sent(run: QualityRun) -> None:
    """Whatever order they came in: what came late took the failure back."""
    events = [
        (dataset, producer, message.event)
        for dataset, producer, message in run.messages()
        if message.event is not None and message.event.subject
    ]
    sent = {
        event.body["notification_id"]
        for _, _, event in events
        if event.label.type == "ntf.delivery.sent.v1"
    }
    wanted: Counts = Counter(
        (dataset, producer, "sent_before_delivered")
        for dataset, producer, event in events
        if event.label.type == "ntf.delivery.delivered.v1"
        and event.body["notification_id"] not in sent
    )

    found = run.found("failed")

    assert wanted == Counter({k: n for k, n in found.items() if k[2] == "sent_before_delivered"})


@pytest.mark.parametrize("every", [1, 2, 5])
def test_kills_change_no_row_and_no_record(every: int) -> None:
    seed = 3
    world = World(seed, total=600, end_ms=END_MS, people=60)
    whole, killed = StrictRun(world), StrictRun(world)
    whole.follow(whole.as_read(Random(seed), messages_max=60))
    killed.follow(killed.as_read(Random(seed), messages_max=60), kill_every=every)

    assert whole.quality.rows == killed.quality.rows
    assert whole.anomalies.rows == killed.anomalies.rows
    assert whole.edges.rows == killed.edges.rows
    assert whole.records == killed.records
    assert len(whole.records) > 0


def test_what_the_world_sends_is_declared_but_for_the_odd(run: QualityRun) -> None:
    rows = run.edges.rows.values()
    undeclared = {(row["from_node"], row["to_node"]) for row in rows if not row["declared"]}

    assert sum(row["n"] for row in rows if row["from_node"].startswith("source:")) == sum(
        message.event is not None for _, _, message in run.messages()
    )
    assert set() == undeclared
