"""A lane at its epoch's bound, with a consumer and a clock of the test's own."""

from __future__ import annotations

import threading
import time
from collections import deque
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from connectors.kafka import lag
from connectors.kafka import lane as lane_module
from connectors.kafka.intake import Failure, Messages
from connectors.kafka.lane import LanePartition
from connectors.kafka.lanes import LaneSource
from connectors.kafka.order import OrderLog
from connectors.metrics import LAG
from connectors.native.intake import Copy
from schemas.errors import TransientError

TABLE, STREAM = "table.v1", "stream.v1"
SILENT_S = 0.125


class Clock:
    """Stands until it is moved."""

    def __init__(self) -> None:
        self.at_s = 100.0

    def steady_s(self) -> float:
        return self.at_s

    def now_ms(self) -> int:
        return int(self.at_s * 1_000)


class Broker:
    """Has messages in the order in which it hands them out, and is the lane's intake."""

    def __init__(self) -> None:
        self.consumer: Any = self
        self.assigned: list[tuple[str, int]] = []
        self.waiting: deque[Copy | Failure] = deque()
        self.reads: list[int] = []
        self.knows = {TABLE, STREAM}

    def add(self, topic: str, first: int, count: int) -> None:
        self.waiting.extend(
            Copy(topic, 0, offset, 1_000, b"k", b"v", []) for offset in range(first, first + count)
        )

    def add_end(self, topic: str, offset: int) -> None:
        end = KafkaError(KafkaError._PARTITION_EOF)
        self.waiting.append(Failure((topic, 0), offset, end))

    def read(self, messages_max: int) -> Messages:
        self.reads.append(messages_max)
        messages: list[Any] = []
        failures = []
        while self.waiting:
            # An end comes beside the last message before it.
            if len(messages) == messages_max and isinstance(self.waiting[0], Copy):
                break
            found = self.waiting.popleft()
            if isinstance(found, Failure):
                failures.append(found)
            else:
                messages.append(found)
        return Messages(messages, failures)

    def assign(self, parts: list[Any]) -> None:
        self.assigned += [(part.topic, part.partition) for part in parts]

    def list_topics(self, *_: Any, **__: Any) -> Any:
        topic = SimpleNamespace(error=None, partitions={0: None})
        return SimpleNamespace(topics={TABLE: topic, STREAM: topic})

    def get_watermark_offsets(self, place: Any, **how: Any) -> tuple[int, int]:
        if how.get("cached") and place.topic not in self.knows:
            return -1001, -1001
        if how.get("timeout") == SILENT_S:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
        return (0, 30) if place.topic == TABLE else (5, 60)

    def pause(self, _parts: list[Any]) -> None: ...

    resume = pause

    def close(self) -> None: ...


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Broker:
    broker = Broker()
    monkeypatch.setattr(lane_module, "open_intake", lambda _config, _level: broker)
    monkeypatch.setattr(lane_module, "Consumer", lambda _config: broker)
    return broker


def open_lane(clock: Clock, *, tables: tuple[str, ...] = (), **more: Any) -> LanePartition:
    saved = more.pop("saved", None)
    source = LaneSource(
        bootstrap_servers="-",
        lanes=1,
        tables=tables,
        streams=(STREAM,),
        clock=clock,
        stop=more.pop("stop", lambda: False),
        discover_s=more.pop("discover_s", 3_600.0),
        **more,
    )
    return source.build_part("read_lanes", "000", saved)


def offsets(part: LanePartition) -> list[int]:
    return [offset for _, block in part.next_batch() for offset in block.offsets]


def test_a_full_epoch_reads_nothing_until_it_has_ended(broker: Broker) -> None:
    clock = Clock()
    broker.add(STREAM, 0, 50)
    part = open_lane(clock, epoch_messages_max=20, block_messages_max=15)

    assert [*range(15)] == offsets(part)
    assert [*range(15, 20)] == offsets(part)
    for _ in range(3):
        clock.at_s += 1.0
        assert [] == offsets(part)
        awake_at = part.next_awake()
        assert awake_at is not None
    assert [15, 5] == broker.reads
    assert {(STREAM, 0): 20} == part.snapshot()["next"]
    assert [*range(20, 35)] == offsets(part)
    part.close()


def test_a_table_is_not_taken_for_read_up_while_nobody_reads(broker: Broker) -> None:
    """What was there when the epoch filled is only seen when the next one begins."""
    clock = Clock()
    broker.add(TABLE, 0, 30)
    broker.add(TABLE, 30, 8)
    part = open_lane(clock, tables=(TABLE,), epoch_messages_max=30)
    assert 30 == len(offsets(part))

    for _ in range(5):
        clock.at_s += 1.0
        assert [] == offsets(part)
    assert [(TABLE, 0)] == broker.assigned

    part.snapshot()
    assert [*range(30, 38)] == offsets(part)
    clock.at_s += 1.0
    assert [] == offsets(part)
    assert [(TABLE, 0), (STREAM, 0)] == broker.assigned
    part.close()


def test_streams_do_not_wait_for_a_table_that_goes_on_being_written(broker: Broker) -> None:
    """Models are published all the time: a lane must not stand for as long as others learn."""
    clock = Clock()
    part = open_lane(clock, tables=(TABLE,))
    waited = []
    for number in range(50):
        broker.add(TABLE, number, 1)
        assert [number] == offsets(part)
        if (STREAM, 0) in broker.assigned:
            break
        waited.append(number)
        clock.at_s += 0.2

    assert 30 <= len(waited) < 45, "its first 30 are what was there"
    part.close()


def test_streams_do_not_wait_for_a_table_where_others_fill_each_epoch(broker: Broker) -> None:
    clock = Clock()
    part = open_lane(clock, tables=(TABLE,), epoch_messages_max=4)
    broker.add(TABLE, 0, 30)
    for epoch in range(60):
        if (STREAM, 0) in broker.assigned:
            break
        broker.add(TABLE, 30 + epoch, 1)
        clock.at_s += 0.2
        offsets(part)
        for _ in range(4):  # the epoch is full
            clock.at_s += 1.0
            assert [] == offsets(part)
        part.snapshot()

    assert 8 <= epoch < 30
    part.close()


def test_streams_wait_for_table_rows_that_were_held_through_a_resumption(
    broker: Broker, tmp_path: Path
) -> None:
    """Giving them may take longer than tables that are written may keep streams waiting."""
    broker.add(TABLE, 0, 30)
    first = open_lane(Clock(), tables=(TABLE,), order_folder=tmp_path)
    assert 30 == len(offsets(first))
    saved = first.snapshot()
    broker.add(STREAM, 0, 5)
    first._start_streams()
    assert [*range(5)] == offsets(first)
    first.close()
    clock = Clock()
    # The epoch of the five is in doubt. The table has grown, and ends before they are there.
    broker.add(TABLE, 0, 330)
    broker.add_end(TABLE, 330)
    broker.add(STREAM, 0, 60)
    more = {"order_folder": tmp_path, "block_messages_max": 10, "saved": saved}
    part = open_lane(clock, tables=(TABLE,), **more)
    given = []
    for _ in range(200):
        clock.at_s += 0.4
        given += [(block.topic, at) for _, block in part.next_batch() for at in block.offsets]

    table = [(TABLE, at) for at in range(330)]
    stream = [(STREAM, at) for at in range(60)]
    assert table[:30] + stream[:5] + table[30:] + stream[5:] == given
    part.close()


@pytest.mark.parametrize("answers", ["it", "nothing"])
def test_streams_that_wait_for_tables_count_as_lag(
    broker: Broker, monkeypatch: pytest.MonkeyPatch, answers: str
) -> None:
    clock = Clock()
    if answers == "nothing":
        monkeypatch.setattr(lag, "_ANSWER_S", SILENT_S)
    part = open_lane(clock, tables=(TABLE,))
    broker.knows = {TABLE}
    broker.add(TABLE, 0, 10)
    offsets(part)
    clock.at_s += 1.0
    assert [] == offsets(part)

    # Of the stream, what retention has left.
    assert 20 + (55 if answers == "it" else 0) == LAG.labels("0")._value.get()
    part.close()


def test_waiting_makes_no_partition_quiet(broker: Broker) -> None:
    clock = Clock()
    part = open_lane(clock, tables=(TABLE,), epoch_messages_max=40, quiet_s=5.0)
    broker.add(TABLE, 0, 30)
    broker.add_end(TABLE, 30)
    assert 30 == len(offsets(part))
    clock.at_s += 1.0
    assert [] == offsets(part)
    broker.add(STREAM, 0, 30)
    assert 10 == len(offsets(part))

    assert [] == offsets(part)
    clock.at_s += 40.0
    assert [] == offsets(part)
    part.snapshot()
    [(_, block)] = part.next_batch()

    assert 20 == len(block.offsets)
    assert () == block.quiet
    clock.at_s += 5.0
    broker.add(STREAM, 30, 1)
    [(_, block)] = part.next_batch()
    assert ((TABLE, 0),) == block.quiet
    part.close()


def test_a_full_lane_stops_when_it_is_told_to(broker: Broker) -> None:
    told: list[bool] = []
    broker.add(STREAM, 0, 50)
    part = open_lane(Clock(), epoch_messages_max=20, stop=lambda: bool(told))
    assert 20 == len(offsets(part))
    assert [] == offsets(part)
    told.append(True)

    with pytest.raises(StopIteration):
        part.next_batch()
    assert {(STREAM, 0): 20} == part.snapshot()["next"]
    part.close()


def test_what_was_held_through_a_resumption_is_given_before_more_is_read(
    broker: Broker, tmp_path: Path
) -> None:
    """Else a lane with a backlog would carry it along, one object each, until it is read up."""
    broker.add(STREAM, 0, 5)
    first = open_lane(Clock(), order_folder=tmp_path)
    assert [*range(5)] == offsets(first)
    first.close()
    broker.add(STREAM, 0, 60)
    part = open_lane(Clock(), order_folder=tmp_path, block_messages_max=20)
    assert [*range(5)] == offsets(part)
    assert 15 == len(part._backlog)

    assert [*range(5, 25)] == offsets(part)
    assert [] == part._backlog
    assert [*range(25, 45)] == offsets(part)
    part.close()


def test_what_was_not_looked_for_is_not_missing(broker: Broker, tmp_path: Path) -> None:
    """A broker that just started may tell an end short; the lane gives it time, but looks."""
    broker.add(STREAM, 0, 25)
    first = open_lane(Clock(), order_folder=tmp_path, block_messages_max=20)
    assert 20 == len(offsets(first))
    assert 5 == len(offsets(first))
    first.close()
    clock = Clock()
    broker.add(STREAM, 0, 20)
    broker.add_end(STREAM, 20)
    part = open_lane(clock, order_folder=tmp_path, block_messages_max=21, epoch_messages_max=20)
    assert 20 == len(offsets(part))
    assert [] == offsets(part)
    clock.at_s += 60.0

    part.snapshot()
    assert [] == offsets(part)
    broker.add(STREAM, 20, 5)
    assert [*range(20, 25)] == offsets(part)
    part.close()


@pytest.mark.parametrize("gone", ["the last message", "all of a block"])
def test_a_repeat_that_ends_behind_a_gap_goes_on_there(
    broker: Broker, tmp_path: Path, gone: str
) -> None:
    """What Kafka has no more is passed: the next start finds where the notes go on."""
    broker.add(STREAM, 0, 15)
    first = open_lane(Clock(), order_folder=tmp_path, block_messages_max=5)
    assert [*range(15)] == [offset for _ in range(3) for offset in offsets(first)]
    first.close()
    kept = 4 if gone == "the last message" else 0
    broker.add(STREAM, 0, kept)
    broker.add(STREAM, 5, 10)
    second = open_lane(Clock(), order_folder=tmp_path, block_messages_max=5)
    assert [*range(kept)] == offsets(second)
    saved = second.snapshot()
    second.close()
    broker.waiting.clear()
    broker.add(STREAM, 5, 10)
    third = open_lane(Clock(), saved=saved, order_folder=tmp_path, block_messages_max=20)

    assert [*range(5, 10)] == offsets(third), "a block as it was, not one of twenty"
    third.close()


def test_notes_are_durable_once_they_are_asked_to_be(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    monkeypatch.setattr(OrderLog, "sync", lambda log: synced.append(log._path.name))
    part = open_lane(Clock(), order_folder=tmp_path)
    source = part._source
    source.sync_notes()
    other = threading.Thread(target=source.sync_notes)
    other.start()
    other.join()
    part.close()
    source.sync_notes()

    assert ["000.jsonl"] == synced, "of this thread's lanes that are open"


def look_around(part: LanePartition, clock: Clock, seconds: float) -> None:
    """Let a lane take an answer that its scout gets from now on, and so much time pass."""
    part._scout.take()
    ends_s = time.monotonic() + 30.0
    while part._scout._found is None:
        assert time.monotonic() < ends_s
        time.sleep(0.01)
    clock.at_s += seconds
    assert [] == offsets(part)


def test_a_lane_ends_when_its_client_hands_out_no_more_of_what_is_there(broker: Broker) -> None:
    clock = Clock()
    broker.add(STREAM, 0, 20)
    part = open_lane(clock, discover_s=0.01)
    assert 20 == len(offsets(part))
    for _ in range(7):
        look_around(part, clock, 4.0)
    broker.add(STREAM, 20, 1)
    assert [20] == offsets(part), "it goes on"
    began_s = clock.at_s
    with pytest.raises(TransientError, match="does not hand out for 30 s"):
        for _ in range(20):
            look_around(part, clock, 4.0)
    assert 30.0 <= clock.at_s - began_s < 60.0
    part.close()


def test_a_lane_that_is_full_or_at_the_end_misses_nothing(broker: Broker) -> None:
    clock = Clock()
    broker.add(STREAM, 0, 20)
    full = open_lane(clock, discover_s=0.01, epoch_messages_max=20)
    assert 20 == len(offsets(full))
    broker.add(STREAM, 0, 20)
    broker.add_end(STREAM, 60)  # behind the last message there are marks of transactions
    ended = open_lane(clock, discover_s=0.01)
    assert 20 == len(offsets(ended))
    for part in (full, ended):
        for _ in range(20):
            look_around(part, clock, 4.0)
        part.close()
