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
from tests.messages import Message, delivered, profile, with_header
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


def test_without_the_notes_the_books_and_the_topics_differ(rig: Rig) -> None:
    crash_then_consent(rig)
    shutil.rmtree(rig.ingest.folder / "recovery" / "ingest" / "order")

    fates, facts, copies = outcome(rig)
    assert (fates, facts, copies) != ({"": 3, "T404": 1}, 3, 3)
