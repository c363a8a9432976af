from __future__ import annotations

import gzip
import json
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaError

from flows.simulate import publish
from flows.simulate.events import Message
from flows.simulate.publish import simulate
from flows.simulate.truth import Truth
from flows.simulate.unplaced import Unplaced
from flows.simulate.world import World
from schemas.errors import PermanentError
from tests.unit.flows.memory_run import END_MS

SERVERS = "localhost:1"


class FakeReport:
    def __init__(self, partition: int, offset: int, timestamp_ms: int) -> None:
        self._place = (partition, offset, timestamp_ms)

    def partition(self) -> int:
        return self._place[0]

    def offset(self) -> int:
        return self._place[1]

    def timestamp(self) -> tuple[int, int]:
        return (1, self._place[2])


class FakeProducer:
    """Confirms what it was given when it is polled; `fails_at` refuses one message."""

    journal: list[str] = []  # noqa: RUF012 - shared with the test, which makes it anew
    given: list[tuple[bytes | None, object]] = []  # noqa: RUF012 - as the journal
    fails_at = -1
    loses_offset_at = -1
    room = 1_000_000

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config
        self._waiting: list[tuple[Any, FakeReport, KafkaError | None]] = []
        self._ends: Counter[tuple[str, int]] = Counter()
        self._count = 0

    def produce(
        self,
        topic: str,
        *,
        value: bytes | None,
        key: bytes | None,
        headers: object,
        timestamp: int,
        on_delivery: Any,
    ) -> None:
        if len(self._waiting) >= self.room:
            raise BufferError
        partition = zlib.crc32(key or b"") % 12
        offset = self._ends[topic, partition]
        self._ends[topic, partition] += 1
        error = KafkaError(KafkaError.MSG_SIZE_TOO_LARGE) if self._count == self.fails_at else None
        if self._count == self.loses_offset_at:
            offset = -1001
        self._count += 1
        self.journal.append(topic)
        self.given.append((value, headers))
        self._waiting.append((on_delivery, FakeReport(partition, offset, timestamp), error))

    def poll(self, _timeout_s: float) -> None:
        waiting, self._waiting = self._waiting, []
        for on_delivery, report, error in waiting:
            on_delivery(error, report)
        if waiting:
            self.journal.append("confirmed")

    def flush(self, _timeout_s: float) -> int:
        self.poll(0)
        return 0


@pytest.fixture
def producer(monkeypatch: pytest.MonkeyPatch) -> type[FakeProducer]:
    class Own(FakeProducer):
        journal: list[str] = []  # noqa: RUF012 - one for each test
        given: list[tuple[bytes | None, object]] = []  # noqa: RUF012 - as the journal

    monkeypatch.setattr(publish, "Producer", Own)
    return Own


def test_every_message_is_sent_and_its_place_noted(producer: type[FakeProducer]) -> None:
    world = World(1, total=3_000, end_ms=END_MS)
    told: list[int] = []
    truth = simulate(world, bootstrap_servers=SERVERS, rate=0, truth=Truth(), progress=told.append)

    assert 3_000 == truth.total
    assert [message.topic for message in world] == [
        entry for entry in producer.journal if entry != "confirmed"
    ]
    assert [(message.value, message.headers) for message in world] == producer.given
    assert sorted(told) == told
    assert 3_000 == told[-1]


def test_the_stream_starts_when_all_profiles_are_confirmed(producer: type[FakeProducer]) -> None:
    world = World(1, total=3_000, end_ms=END_MS)
    truth = Truth()
    simulate(
        world,
        bootstrap_servers=SERVERS,
        rate=0,
        truth=truth,
        between=lambda: producer.journal.append(f"between at {truth.total}"),
    )
    at = producer.journal.index(f"between at {world.profile_count}")

    assert "confirmed" == producer.journal[at - 1]
    assert {"ntf.profiles.v1", "confirmed"} == set(producer.journal[:at])


def test_a_refused_message_stops_the_sending(producer: type[FakeProducer]) -> None:
    producer.fails_at = 700

    with pytest.raises(PermanentError, match="MSG_SIZE_TOO_LARGE"):
        simulate(
            World(1, total=3_000, end_ms=END_MS), bootstrap_servers=SERVERS, rate=0, truth=Truth()
        )
    assert 1_500 > len([entry for entry in producer.journal if entry != "confirmed"])


@pytest.mark.parametrize("is_found", [True, False])
def test_a_message_that_is_confirmed_without_its_place_is_looked_for(
    producer: type[FakeProducer], monkeypatch: pytest.MonkeyPatch, *, is_found: bool
) -> None:
    """What cannot be found cannot be accounted for."""

    def find(unplaced: Unplaced, _config: dict[str, Any]) -> list[tuple[Message, int, int]]:
        if not is_found:
            return []
        return [
            (waiting.pop().message, partition, unplaced._newest[topic, partition] + 1)
            for (topic, partition), waiting in unplaced._waiting.items()
        ]

    monkeypatch.setattr(Unplaced, "find", find)
    producer.loses_offset_at = 2_000
    truth = Truth()

    def send() -> None:
        world = World(1, total=3_000, end_ms=END_MS)
        simulate(world, bootstrap_servers=SERVERS, rate=0, truth=truth)

    if is_found:
        send()
        assert 3_000 == truth.total
        return
    with pytest.raises(PermanentError, match="INVALID_RECORD"):
        send()
    assert 2_999 == truth.total


def test_a_full_queue_is_waited_for(producer: type[FakeProducer]) -> None:
    producer.room = 7
    truth = simulate(
        World(1, total=600, end_ms=END_MS), bootstrap_servers=SERVERS, rate=0, truth=Truth()
    )

    assert 600 == truth.total


def test_sending_ends_early_when_told_to_stop(producer: type[FakeProducer]) -> None:
    truth = Truth()
    simulate(
        World(1, total=3_000, end_ms=END_MS),
        bootstrap_servers=SERVERS,
        rate=0,
        truth=truth,
        stop=lambda: truth.total >= 1_000,
    )
    sent = [entry for entry in producer.journal if entry != "confirmed"]

    assert 1_000 <= truth.total < 3_000
    assert len(sent) == truth.total


def test_the_pace_lets_through_what_is_due_and_no_rush_after_a_pause() -> None:
    now_s = [100.0]
    pace = publish._Pace(50, steady_s=lambda: now_s[0])

    assert 0 == pace.due(0)
    now_s[0] += 2
    assert 100 == pace.due(0)
    assert 0 == pace.due(100)
    assert 500 == publish._Pace(0).due(0)
    now_s[0] += 1_000
    pace.restart(100)
    assert 0 == pace.due(100)
    now_s[0] += 1
    assert 50 == pace.due(100)


def test_the_truth_is_written_down_one_line_a_message(
    producer: type[FakeProducer], tmp_path: Path
) -> None:
    truth = simulate(
        World(1, total=5_000, end_ms=END_MS), bootstrap_servers=SERVERS, rate=0, truth=Truth()
    )
    path = tmp_path / "truth.jsonl.gz"
    truth.write(path)
    with gzip.open(path, "rt", encoding="utf-8") as file:
        lines = [json.loads(line) for line in file]

    assert list(range(5_000)) == [line["number"] for line in lines]
    assert truth.codes() == Counter(line["code"] for line in lines if line["code"])
    assert {
        "number",
        "topic",
        "partition",
        "offset",
        "id",
        "fault",
        "door",
        "code",
        "routed",
    } == set(lines[0])
