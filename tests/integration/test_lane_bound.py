"""Lanes that take up no more than so many messages an epoch: on each broker, at each level."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import bytewax.operators as op
import pytest
from bytewax.dataflow import Dataflow
from bytewax.testing import run_main

from connectors.kafka.lane import LanePartition
from connectors.memory import Checkpointed, Journal, MemorySink, Produced
from schemas.blocks import RawBlock
from tests.integration.test_lane_resumption import looks
from tests.integration.test_lanes import Topics, numbers, open_lane, read, source
from tests.services import KafkaService

LOOK_S = 1.0


@pytest.fixture
def closing() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture(
    params=[
        pytest.param(("embedded_kafka", "pure"), id="embedded", marks=pytest.mark.embedded_kafka),
        pytest.param(("real_kafka", "auto"), id="real", marks=pytest.mark.real_kafka),
    ]
)
def topics(request: pytest.FixtureRequest, topic_prefix: str) -> Topics:
    """Each broker with one level: what is tested here is the same code for both."""
    name, level = request.param
    kafka: KafkaService = request.getfixturevalue(name)
    return Topics(kafka.bootstrap_servers, topic_prefix, level)


def size(blocks: list[RawBlock]) -> int:
    return sum(len(block.values) for block in blocks)


def look(part: LanePartition) -> list[RawBlock]:
    """What a lane gives within a while; it always wants to be asked again, and soon."""
    blocks: list[RawBlock] = []
    ends_s = time.monotonic() + LOOK_S
    while time.monotonic() < ends_s:
        blocks += [block for _, block in part.next_batch()]
        awake_at = part.next_awake()
        assert awake_at is None or awake_at - datetime.now(UTC) < timedelta(seconds=0.1)
        time.sleep(0.002)
    return blocks


def test_an_epoch_has_no_more_than_its_bound_and_the_next_one_goes_on(
    topics: Topics, closing: ExitStack
) -> None:
    topics.send(topics.stream, 450)
    lanes = source(topics, lanes=1, epoch_messages_max=200, block_messages_max=30)
    part = open_lane(closing, lanes, 0)

    epochs = []
    for expected in (200, 200, 50):
        blocks = read(part, expected) + look(part)
        part.snapshot()
        epochs.append(blocks)

    assert [200, 200, 50] == [size(blocks) for blocks in epochs]
    assert all(len(block.values) <= 30 for blocks in epochs for block in blocks)
    given = [block for blocks in epochs for block in blocks]
    assert [*range(450)] == sorted(numbers(given, topics.stream))


def test_lanes_share_the_bound_and_one_alone_may_have_all(
    topics: Topics, closing: ExitStack
) -> None:
    topics.send(topics.stream, 400)
    lanes = source(topics, epoch_messages_max=240, block_messages_max=20)
    parts = [open_lane(closing, lanes, lane) for lane in range(2)]

    second = read(parts[1], 1)
    first = read(parts[0], 200)
    second += read(parts[1], 40 - size(second))
    assert [] == look(parts[1]) + look(parts[0])
    assert (200, 40) == (size(first), size(second))

    for part in parts:
        part.snapshot()
    assert 160 == size(read(parts[1], 160))


def test_tables_are_read_whole_first_however_many_epochs_that_takes(
    topics: Topics, closing: ExitStack
) -> None:
    topics.send(topics.table, 500)
    topics.send(topics.stream, 100)
    part = open_lane(closing, source(topics, lanes=1, epoch_messages_max=150), 0)

    blocks: list[RawBlock] = []
    for expected in (150, 150, 150):
        found = read(part, expected) + look(part)
        assert expected == size(found)
        blocks += found
        part.snapshot()
    blocks += read(part, 150)

    kinds = [block.topic for block in blocks]
    before = blocks[: kinds.index(topics.stream)]
    assert 500 == len(numbers(before, topics.table))
    assert [*range(100)] == sorted(numbers(blocks, topics.stream))


def test_a_table_of_before_is_read_again_without_regard_to_the_bound(
    topics: Topics, closing: ExitStack, tmp_path: Path
) -> None:
    topics.send(topics.table, 300)
    first = open_lane(closing, source(topics, lanes=1, order_folder=tmp_path), 0)
    read(first, 300)
    saved = first.snapshot()
    first.close()
    topics.send(topics.stream, 80)

    again = source(topics, lanes=1, order_folder=tmp_path, epoch_messages_max=50)
    part = open_lane(closing, again, 0, saved)
    again.bound.take(50)  # by another lane, which was ready sooner
    blocks = read(part, 300) + look(part)
    assert 300 == len(numbers(blocks, topics.table))
    assert [] == numbers(blocks, topics.stream)

    part.snapshot()
    assert 50 == len(numbers(read(part, 50) + look(part), topics.stream))


class Crash:
    """A lane that had given some blocks of an epoch when it came to its bound and crashed."""

    def __init__(self, topics: Topics, closing: ExitStack, folder: Path) -> None:
        self.topics, self.closing, self.folder = topics, closing, folder
        topics.send(topics.stream, 400)
        part = self.open(100)
        self.before = read(part, 100)
        self.saved = part.snapshot()
        self.doubtful = read(part, 100) + look(part)
        assert 100 == size(self.doubtful)
        part.close()

    def open(self, bound: int, saved: dict[str, Any] | None = None) -> LanePartition:
        lanes = source(
            self.topics,
            lanes=1,
            order_folder=self.folder,
            block_messages_max=9,
            epoch_messages_max=bound,
        )
        return open_lane(self.closing, lanes, 0, saved)


@pytest.mark.parametrize("bound", [30, 100, 5_000])
def test_a_crash_at_the_bound_gives_the_same_blocks_whatever_the_bound_is_now(
    topics: Topics, closing: ExitStack, tmp_path: Path, bound: int
) -> None:
    crash = Crash(topics, closing, tmp_path)

    part = crash.open(bound, crash.saved)
    blocks: list[RawBlock] = []
    epochs = [0]
    deadline_s = time.monotonic() + 60.0
    while size(blocks) < 300:
        assert time.monotonic() < deadline_s
        found = look(part)
        blocks += found
        epochs[-1] += size(found)
        if not found:
            part.snapshot()
            epochs.append(0)

    assert looks(crash.doubtful) == looks(blocks)[: len(crash.doubtful)]
    assert [*range(400)] == sorted(numbers(crash.before + blocks, topics.stream))
    # Blocks of before are never cut, so one of them may lie across the bound.
    assert max(epochs) < bound + 9


def test_a_crash_on_the_way_through_a_lowered_bound_changes_nothing(
    topics: Topics, closing: ExitStack, tmp_path: Path
) -> None:
    crash = Crash(topics, closing, tmp_path)
    part = crash.open(30, crash.saved)
    first = read(part, 30) + look(part)
    saved = part.snapshot()
    second = read(part, 30) + look(part)
    part.close()
    assert 30 <= size(first) < 39
    assert 30 <= size(second) < 39

    blocks = first + read(crash.open(5_000, saved), 300 - size(first))

    assert looks(crash.doubtful) == looks(blocks)[: len(crash.doubtful)]
    assert looks(second) == looks(blocks)[len(first) : len(first) + len(second)]
    assert [*range(400)] == sorted(numbers(crash.before + blocks, topics.stream))


class Run(ABC):
    """Lanes in the engine, until they are told to stop."""

    def __init__(self, topics: Topics, **more: Any) -> None:
        self.journal = Journal()
        self.durable = 0
        self.began_s = 0.0
        self.source = source(topics, stop=self.is_over, on_durable=self.note, **more)

    def note(self) -> None:
        self.durable += 1

    @abstractmethod
    def is_over(self) -> bool:
        """Whether the lanes are told to stop."""

    @property
    def given(self) -> int:
        return size(self.journal.items("blocks"))

    def play(self, epoch_s: float) -> list[int]:
        """Run; gives the messages of each epoch."""
        flow = Dataflow("bounded")
        blocks = op.input("read_lanes", flow, self.source)
        sink = MemorySink[RawBlock]("blocks", self.journal, self.source.lanes)
        op.output("keep", blocks, sink)
        self.began_s = time.monotonic()
        run_main(flow, epoch_interval=timedelta(seconds=epoch_s))
        epochs = [0]
        for entry in self.journal.entries:
            if isinstance(entry, Produced):
                epochs[-1] += len(entry.item.values)
            elif isinstance(entry, Checkpointed) and epochs[-1]:
                epochs.append(0)
        return epochs


class Backlog(Run):
    def is_over(self) -> bool:
        assert time.monotonic() < self.began_s + 60.0
        return self.given >= 400


def test_the_engine_ends_the_epoch_of_lanes_that_give_nothing(topics: Topics) -> None:
    """By its interval, and it goes on: nobody waits for ever, nor is taken for hung."""
    topics.send(topics.stream, 400)
    run = Backlog(topics, epoch_messages_max=100, block_messages_max=20)

    epochs = run.play(0.8)

    assert 400 == sum(epochs)
    assert 100 == max(epochs)
    assert [*range(400)] == sorted(numbers(run.journal.items("blocks"), topics.stream))
    assert run.durable >= 3 * 2


class Stopped(Run):
    def is_over(self) -> bool:
        return self.given >= 100 and time.monotonic() > self.began_s + 2.0


def test_lanes_that_wait_at_their_bound_stop_at_once_and_lose_nothing(topics: Topics) -> None:
    topics.send(topics.stream, 400)
    run = Stopped(topics, epoch_messages_max=100, block_messages_max=20)

    epochs = run.play(3_600.0)

    assert [100, 0] == epochs
    assert isinstance(run.journal.entries[-1], Checkpointed)
    assert time.monotonic() - run.began_s < 30.0
