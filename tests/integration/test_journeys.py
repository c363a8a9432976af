"""Everything in one process on running servers: journeys and outcomes are the true ones.

A simulated world is sent; afterwards every journey, every outcome and every record that learners
read is compared with its truth. So is every metric of the catalog.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from typing import Any, Final

import orjson
import pytest
from confluent_kafka import OFFSET_BEGINNING, Producer

from connectors.clickhouse.client import ClickHouseAddress
from flows.journey.outcomes import may_publish
from flows.simulate import World
from flows.simulate.copies import open_reader, places_in
from flows.simulate.plan import Shares
from flows.verify import ROUTED_TOPICS, Report, verify
from flows.verify_journeys import check_journeys, check_outcomes, observed_places
from schemas.metrics import load_catalog
from schemas.observed import OUTCOMES_TOPIC
from tests.ingest_process import WAIT_S_MAX, IngestProcess
from tests.integration.test_ingest import Rig, assert_all_right, closing, embedded_rig, rig
from tests.messages import delivered
from tests.metrics_truth import compare

__all__ = ["closing", "embedded_rig", "rig"]


class AllProcess(IngestProcess):
    """Starts `airside run all`."""

    flow = "all"


DAY_MS: Final = 86_400_000
OPEN: Final = "SELECT count() FROM journeys FINAL WHERE state = 'open' AND last_at < now() - 259200"
FOLLOWED: Final = "SELECT sum(n) FROM journeys FINAL"
TIMED_OUT: Final = "SELECT journey, class FROM journeys FINAL WHERE state = 'timed_out'"


@pytest.fixture(autouse=True)
def _run_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Rig, "process", AllProcess)


def verified(rig: Rig) -> Report:
    return verify(
        rig.truth,
        rig.client,
        bootstrap_servers=rig.servers,
        journeys=rig.ingest.settings.journey,
    )


def test_journeys_are_true_and_outcomes_come_once_through_kills(
    rig: Rig,
) -> None:
    with rig.sending(rig.world(9_000), rate=1_500) as streaming:
        rig.ingest.start()
        assert streaming.wait(60)
        for pause_s in (1.2, 1.7):
            time.sleep(pause_s)
            rig.ingest.kill()
            rig.ingest.start()
    rig.wait()

    assert 0 == rig.ingest.stop()
    report = verified(rig)
    assert_all_right(report)
    assert min(report.journeys, report.outcomes) > 300
    assert_every_metric_is_true(rig)


def assert_every_metric_is_true(rig: Rig) -> None:
    compared = compare(rig.client, rig.truth)

    assert [] == compared.differing
    assert set(load_catalog().by_name) == compared.metrics


class JourneyProcess(IngestProcess):
    """Starts `airside run journey`, which knows of the gate what Kafka has."""

    flow = "journey"


def test_journeys_of_a_flow_of_their_own_are_the_same_through_kills(
    rig: Rig,
) -> None:
    rig.ingest.flow = "ingest"
    follower = JourneyProcess(
        rig.ingest.folder,
        bootstrap_servers=rig.servers,
        clickhouse=ClickHouseAddress(rig.clickhouse.dsn, "airside"),
    )
    follower.environment = rig.ingest.environment
    follower.log = rig.ingest.folder / "journey.log"
    with rig.sending(rig.world(5_000), rate=1_500) as streaming:
        rig.ingest.start()
        follower.start()
        assert streaming.wait(60)
        time.sleep(1.0)
        rig.ingest.kill()
        follower.kill()
        rig.ingest.start()
        follower.start()
    rig.wait()
    wait_until_no_more_comes(rig)

    assert [0, 0] == [rig.ingest.stop(), follower.stop()]
    assert_all_right(rig.verify())
    wrong: list[tuple[str, str]] = []
    window_ms = int(rig.ingest.settings.journey.window_s * 1_000)
    journeys = check_journeys(rig.truth, partial(read, rig), lambda *said: wrong.append(said))
    outcomes = check_outcomes(
        rig.truth, partial(read, rig), lambda *said: wrong.append(said), window_ms=window_ms
    )
    assert [] == wrong
    assert 150 < journeys < outcomes
    places = observed_places(rig.truth, ROUTED_TOPICS[:2])
    ids = [body["outcome_id"] for body in told_to_learners(rig, len(places))]
    assert len(places) == len(ids) == len(set(ids))


def read(rig: Rig, query: str) -> Iterator[tuple[Any, ...]]:
    return (tuple(row) for row in rig.client.query(query).result_rows)


def wait_until_no_more_comes(rig: Rig) -> None:
    """Wait until all events that are in facts are in journeys, within a bound."""
    facts = (
        "SELECT count() FROM facts FINAL WHERE subject != '' AND event_type NOT LIKE '%profile%'"
    )
    deadline_s = time.monotonic() + WAIT_S_MAX
    while rig.client.query(facts).result_rows != rig.client.query(FOLLOWED).result_rows:
        assert time.monotonic() < deadline_s, "journeys stay behind the facts"
        time.sleep(0.5)


@pytest.mark.embedded_kafka
def test_journeys_are_true_and_time_out_on_the_embedded_stack(embedded_rig: Rig) -> None:
    """A world of four days ago, and then traffic in one partition of each lane alone."""
    rig = embedded_rig
    rig.ingest.environment["AIRSIDE_TIME__QUIET_S"] = "0.5"
    end_ms = time.time_ns() // 1_000_000 - 4 * DAY_MS
    # None from the future: it may have come by now.
    rig.send(World(7, total=4_000, end_ms=end_ms, people=300, shares=Shares(malformed=0.0)))
    rig.ingest.start()
    rig.wait()
    assert 0 == rig.ingest.stop()
    report = verified(rig)
    assert_all_right(report)
    assert 100 < report.journeys
    assert_every_metric_is_true(rig)
    [(silent,)] = rig.client.query(OPEN).result_rows
    assert 50 < silent

    rig.ingest.start()
    go_on_until_none_is_open(rig)
    assert 0 == rig.ingest.stop()

    timed_out = rig.client.query(TIMED_OUT).result_rows
    assert silent == len(timed_out)
    may_be_told = sorted(journey for journey, classes in timed_out if may_publish(classes))
    silent_ones = [
        body["journey_id"]
        for body in told_to_learners(rig, len(may_be_told))
        if body["kind"] == "timed_out"
    ]
    assert may_be_told == sorted(silent_ones)


def told_to_learners(rig: Rig, count: int) -> list[dict[str, Any]]:
    """What was published on outcomes; waits longer as long as there are not so many."""
    reader = open_reader(rig.servers, {})
    reader.assign(places_in(reader, rig.servers, [OUTCOMES_TOPIC], OFFSET_BEGINNING))
    found: list[dict[str, Any]] = []
    deadline_s = time.monotonic() + WAIT_S_MAX
    while messages := reader.consume(2_000, 2.0 if len(found) >= count else 10.0):
        assert time.monotonic() < deadline_s
        found += [orjson.loads(message.value() or b"{}") for message in messages]
    reader.close()
    return found


def go_on_until_none_is_open(rig: Rig) -> None:
    """Send on, within a bound: time passes with the events of a lane."""
    producer = Producer({"bootstrap.servers": rig.servers})
    deadline_s, number = time.monotonic() + WAIT_S_MAX, 0
    while rig.client.query(OPEN).result_rows != [(0,)]:
        assert time.monotonic() < deadline_s, "journeys stay open"
        for lane in range(4):
            number += 1
            message = delivered(number, at_ms=time.time_ns() // 1_000_000)
            headers: Any = message.headers
            producer.produce(
                message.topic, message.value, message.key, partition=lane, headers=headers
            )
        producer.flush(10)
        time.sleep(0.5)
