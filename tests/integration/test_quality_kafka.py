"""Quality behind the gate on Kafka, through kills: findings once, minutes as they truly were."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from typing import Any

import orjson
import pytest
from confluent_kafka import Producer

from flows.simulate import World, read_shares
from flows.simulate.copies import headers_in, open_reader, places_in
from flows.simulate.events import Event
from flows.simulate.truth import Truth
from schemas.events import EVENT_TYPES
from schemas.quality import Rule, load_quality
from schemas.quality_found import QUALITY_TOPIC
from tests.ingest_process import wait_decided
from tests.integration.test_ingest import Rig, closing, rig
from tests.integration.test_journeys import AllProcess

__all__ = ["closing", "rig"]

RULES = load_quality().rules
OF_ACCEPTED = [rule.name for rule in RULES if rule.codes is None and rule.constant is None]
"""Rules whose counts stand in the minute of the event: not that of refusals, nor the one that goes
by which value came first."""
MINUTE_MS = 60_000
UNHEARD = "/nobody/knows"
STRANGERS = 3

Minutes = Counter[tuple[int, str, str, str]]
"""By minute, topic, producer and rule."""


@pytest.fixture(autouse=True)
def _run_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Rig, "process", AllProcess)


def send_strangers(rig: Rig) -> None:
    """An accepted event a few times more, each with an id of its own, from a source of nobody."""
    topic, partition, offset = next(
        place
        for place, fact in rig.truth.facts.items()
        if fact.subject and fact.event_type == "ntf.engagement.clicked.v1"
    )
    reader = open_reader(rig.servers, {})
    [where] = [
        one for one in places_in(reader, rig.servers, [topic], offset) if one.partition == partition
    ]
    reader.assign([where])
    message = reader.poll(30)
    reader.close()
    assert message is not None
    producer = Producer({"bootstrap.servers": rig.servers})
    for number in range(STRANGERS):
        changed = {"ce_id": f"evt-stranger-{number}".encode(), "ce_source": UNHEARD.encode()}
        headers: list[tuple[str, str | bytes | None]] = [
            (name, changed.get(name, value)) for name, value in headers_in(message)
        ]
        producer.produce(topic, message.value(), message.key(), partition, headers=headers)
    assert 0 == producer.flush(30)


def findings(rig: Rig, least: int) -> list[dict[str, Any]]:
    """The committed events of the topic, by place; at least so many are waited for."""
    reader = open_reader(rig.servers, {})
    reader.assign(places_in(reader, rig.servers, [QUALITY_TOPIC], 0))
    found: list[dict[str, Any]] = []
    quiet = 0
    while quiet < (3 if len(found) >= least else 30):
        messages = reader.consume(1_000, 0.5)
        quiet = 0 if messages else quiet + 1
        for message in messages:
            if message.error() is None:
                headers = dict(headers_in(message))
                found.append({**orjson.loads(message.value() or b""), "id": headers["ce_id"]})
    reader.close()
    return found


def is_wrong(rule: Rule, event: Event, delay_ms: int, sent: set[str]) -> bool:
    if rule.missing is not None:
        return not event.body.get(rule.missing)
    if rule.delay_s is not None:
        return delay_ms > rule.delay_s * 1_000
    return event.body["notification_id"] not in sent


def true_minutes(world: World, truth: Truth) -> tuple[Minutes, Minutes]:
    """What each rule over accepted events checked and what failed, in plain arithmetic."""
    recorded_ms = {fact.event_id: fact.recorded_at for fact in truth.facts.values()}
    events = [message.event for message in world.stream() if message.event is not None]
    sent = {
        event.body["notification_id"]
        for event in events
        if event.label.type == "ntf.delivery.sent.v1" and event.subject
    }
    checked: Minutes = Counter()
    failed: Minutes = Counter()
    for event in events:
        kind = event.label.type
        dataset = EVENT_TYPES[kind].topic
        for rule in RULES:
            if rule.name not in OF_ACCEPTED or not rule.is_of(dataset, kind):
                continue
            if rule.after and not (event.subject and event.body.get("notification_id")):
                continue
            key = (event.time_ms // MINUTE_MS, dataset, event.label.source, rule.name)
            checked[key] += 1
            failed[key] += is_wrong(rule, event, recorded_ms[event.id] - event.time_ms, sent)
    return checked, +failed


def told_minutes(rig: Rig) -> tuple[Minutes, Minutes]:
    lines = rig.client.query(
        "SELECT intDiv(toUnixTimestamp(w), 60), dataset, producer, rule, sum(checked), sum(failed)"
        " FROM quality FINAL WHERE has({names:Array(String)}, rule)"
        " AND producer != {unheard:String} GROUP BY ALL",
        {"names": OF_ACCEPTED, "unheard": UNHEARD},
    ).result_rows
    checked = Counter({tuple(line[:4]): line[4] for line in lines})
    return checked, +Counter({tuple(line[:4]): line[5] for line in lines})


def true_refusals(truth: Truth) -> Counter[tuple[str, str]]:
    """Failures of each rule over refusals, by topic."""
    return Counter(
        (place[0], rule.name)
        for place, fate in truth.fates.items()
        for rule in RULES
        if fate.code and rule.codes and any(fate.code.startswith(part) for part in rule.codes)
    )


def told_refusals(rig: Rig) -> Counter[tuple[str, str]]:
    names = [rule.name for rule in RULES if rule.codes]
    lines = rig.client.query(
        "SELECT dataset, rule, sum(failed) FROM quality FINAL"
        " WHERE has({names:Array(String)}, rule) GROUP BY ALL",
        {"names": names},
    ).result_rows
    return +Counter({(dataset, rule): n for dataset, rule, n in lines})


def series_of(found: list[dict[str, Any]]) -> dict[tuple[Any, ...], list[tuple[str, str]]]:
    """The severities that each lane told of a rule, by minute."""
    told: dict[tuple[Any, ...], list[tuple[str, str]]] = defaultdict(list)
    for one in found:
        if one["finding"] == "violation":
            key = (one["lane"], one["dataset"], one["producer"], one["rule"])
            told[key].append((one["minute"], one["severity"]))
    return {key: sorted(some) for key, some in told.items()}


def anomalies_told(rig: Rig) -> Counter[tuple[Any, ...]]:
    lines = rig.client.query(
        "SELECT formatDateTime(w, '%FT%T'), dataset, producer, kind, lane FROM anomalies FINAL"
    ).result_rows
    return Counter(tuple(line) for line in lines)


def test_findings_come_once_and_minutes_are_true_through_kills(rig: Rig) -> None:
    world = World(
        11,
        total=6_000,
        end_ms=time.time_ns() // 1_000_000,
        people=200,
        span_s=1_800,
        shares=read_shares("malformed=0.08"),
    )
    with rig.sending(world, rate=1_500) as streaming:
        rig.ingest.start()
        assert streaming.wait(60)
        for pause_s in (1.3, 1.6):
            time.sleep(pause_s)
            rig.ingest.kill()
            rig.ingest.start()
    rig.wait()
    send_strangers(rig)
    wait_decided(rig.client, rig.truth.total + STRANGERS, rig.ingest)
    assert 0 == rig.ingest.stop()

    assert true_minutes(world, rig.truth) == told_minutes(rig)
    assert true_refusals(rig.truth) == told_refusals(rig)
    found = findings(rig, 2)
    assert len(found) == len({one["id"] for one in found})
    assert [UNHEARD] == [one["producer"] for one in found if one["finding"] == "undeclared_flow"]
    assert anomalies_told(rig) == Counter(
        (
            one["minute"][: len("2026-11-25T08:38:00")],
            one["dataset"],
            one["producer"],
            one["rule"],
            one["lane"],
        )
        for one in found
        if one["finding"] == "anomaly"
    )
    told = series_of(found)
    assert told
    for severities in ([severity for _, severity in some] for some in told.values()):
        # Each tells of a change, so one that is told twice or lost would not differ from the next.
        assert all(a != b for a, b in zip(["ok", *severities], severities, strict=False))
