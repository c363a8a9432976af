"""An epoch that is repeated after a crash decides as it did, whatever has been learned since."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from connectors.embedded.clickhouse import EmbeddedClickHouse
from flows.simulate.copies import read_copies
from flows.verify import ROUTED_TOPICS
from schemas.ticket import format_time
from tests.ingest_process import decided, wait_decided
from tests.integration.test_ingest import Rig
from tests.messages import HOUR_MS, Message, delivered, profile, with_header
from tests.reconcile_world import cells_as_read, facts_as_cells
from tests.services import Breakable


@pytest.fixture
def rig(breakable_kafka: Breakable, tmp_path: Path) -> Iterator[Rig]:
    with ExitStack() as stack:
        clickhouse = stack.enter_context(EmbeddedClickHouse(data_dir=tmp_path, faults=True))
        made = Rig(tmp_path, breakable_kafka.bootstrap_servers, clickhouse, "exactly_once")
        stack.callback(made.close)
        yield made


def send(rig: Rig, *messages: Message) -> None:
    producer = Producer({"bootstrap.servers": rig.servers, "linger.ms": 5})
    for message in messages:
        now = format_time(time.time_ns() // 1_000_000)
        sent = with_header(message, "ce_time", now)
        headers: Any = sent.headers
        producer.produce(sent.topic, value=sent.value, key=sent.key, headers=headers)
    assert producer.flush(30) == 0


def crash_then_consent(rig: Rig) -> None:
    """A marketing message without consent is decided, the worker dies, then consent comes."""
    send(rig, profile(1, consent=[]))
    rig.ingest.start()
    wait_decided(rig.client, 1, rig.ingest)
    assert 0 == rig.ingest.stop()
    send(rig, delivered(10, datapurpose="marketing"), delivered(11))
    rig.ingest.environment["AIRSIDE_CRASH_AT"] = "after_sink_commit"
    assert -9 == rig.ingest.run_to_the_end()
    del rig.ingest.environment["AIRSIDE_CRASH_AT"]
    send(rig, profile(2, consent=["marketing"]))


def outcome(rig: Rig) -> tuple[dict[str, int], int, int]:
    """Messages by code, facts, and records in the routed topics, once all is decided."""
    rig.ingest.start()
    deadline_s = time.monotonic() + 60
    while decided(rig.client) < 4 and time.monotonic() < deadline_s:
        time.sleep(0.1)
    assert 0 == rig.ingest.stop()
    fates = rig.client.query("SELECT code, sum(n) FROM fates FINAL GROUP BY code").result_rows
    facts = rig.client.query("SELECT count() FROM facts FINAL").result_rows[0][0]
    copies = list(read_copies(rig.servers, topics=ROUTED_TOPICS, expected=int(facts), extra={}))
    return {str(code): int(n) for code, n in fates}, int(facts), len(copies)


def test_a_decision_that_was_half_committed_stays(rig: Rig) -> None:
    crash_then_consent(rig)

    assert ({"": 3, "T404": 1}, 3, 3) == outcome(rig)


def send_at(rig: Rig, *messages: Message, at_ms: int, recorded_ms: int) -> None:
    """Messages of one partition that happened and were recorded at these times."""
    producer = Producer({"bootstrap.servers": rig.servers, "linger.ms": 5})
    for message in messages:
        sent = with_header(message, "ce_time", format_time(at_ms))
        headers: Any = sent.headers
        producer.produce(
            sent.topic,
            value=sent.value,
            key=sent.key,
            headers=headers,
            partition=0,
            timestamp=recorded_ms,
        )
    assert producer.flush(30) == 0


def close_minute(rig: Rig, old_ms: int) -> int:
    """Let time go on in lane 0 until it tells that this minute is closed; gives how many came."""
    closed = "SELECT count() FROM rollup_floors FINAL WHERE lane = 0 AND floor > {at:UInt32}"
    for number in range(100, 400):
        now_ms = time.time_ns() // 1_000_000
        send_at(rig, delivered(number), at_ms=now_ms, recorded_ms=now_ms)
        time.sleep(0.2)
        asked = rig.client.query(closed, parameters={"at": old_ms // 1_000})
        if asked.result_rows[0][0]:
            return number - 99
    raise AssertionError(rig.ingest.words()[-3_000:])


@pytest.mark.parametrize("point", ["after_state", "after_insert:2", "after_sink_commit"])
def test_a_profile_of_a_closed_minute_counts_once_through_a_crash(rig: Rig, point: str) -> None:
    """Two of its minute and lane came before it was closed, two behind that."""
    one, two, three, four = (profile(n, subject=f"usr_{n:016d}") for n in range(1, 5))
    now_ms = time.time_ns() // 1_000_000
    old_ms = now_ms - 30 * HOUR_MS
    rig.ingest.environment["AIRSIDE_TIME__QUIET_S"] = "0.1"
    send_at(rig, one, two, at_ms=old_ms, recorded_ms=old_ms + 700)
    rig.ingest.start()
    came = close_minute(rig, old_ms)
    assert 0 == rig.ingest.stop()
    send_at(rig, three, at_ms=old_ms, recorded_ms=now_ms)
    send_at(rig, four, at_ms=old_ms, recorded_ms=old_ms + 900)
    rig.ingest.environment["AIRSIDE_CRASH_AT"] = point
    assert -9 == rig.ingest.run_to_the_end()
    del rig.ingest.environment["AIRSIDE_CRASH_AT"]
    rig.ingest.start()
    wait_decided(rig.client, came + 4, rig.ingest)
    assert 0 == rig.ingest.stop()

    assert facts_as_cells(rig.client) == cells_as_read(rig.client)
    sums = "SELECT sum(n) FROM rollup_1m WHERE event_type LIKE '%profile%' GROUP BY w"
    assert [(4,)] == list(rig.client.query(sums).result_rows)


def test_without_the_notes_the_books_and_the_topics_differ(rig: Rig) -> None:
    crash_then_consent(rig)
    shutil.rmtree(rig.ingest.folder / "recovery" / "ingest" / "order")

    fates, facts, copies = outcome(rig)
    assert (fates, facts, copies) != ({"": 3, "T404": 1}, 3, 3)
