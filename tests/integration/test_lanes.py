"""Lanes on a running broker: what is read, in which order, and what stops them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions

from connectors.clock import SystemClock
from connectors.kafka import silence
from connectors.kafka.lane import LanePartition
from connectors.kafka.lanes import LaneSource
from connectors.native.level import Wish
from schemas.blocks import RawBlock
from schemas.errors import ConfigError, PermanentError, TransientError
from schemas.ticket import Header
from schemas.ticket_reader import UNREADABLE
from tests.services import KafkaService
from tests.services_clients import make_topic, send_all

PARTITIONS = 4
WAIT_S_MAX = 30.0

Make = Callable[..., LanePartition]


class Topics:
    """A table and a stream of the test's own."""

    def __init__(self, servers: str, prefix: str, level: Wish) -> None:
        self.servers = servers
        self.level = level
        self.table = make_topic(servers, f"{prefix}table", partitions=PARTITIONS)
        self.stream = make_topic(servers, f"{prefix}stream", partitions=PARTITIONS)
        self.producer = Producer({"bootstrap.servers": servers, "linger.ms": 5})

    def send(self, topic: str, count: int, *, first: int = 0, at_ms: int = 1_000) -> None:
        send_all(
            self.producer,
            [
                {
                    "topic": topic,
                    "value": b"%d" % number,
                    "key": b"k%d" % number,
                    "partition": number % PARTITIONS,
                    "timestamp": at_ms,
                    "headers": [("n", b"%d" % number)],
                }
                for number in range(first, first + count)
            ],
        )


@pytest.fixture
def topics(kafka: KafkaService, topic_prefix: str, level: Wish) -> Topics:
    return Topics(kafka.bootstrap_servers, topic_prefix, level)


@pytest.fixture
def real_topics(real_kafka: KafkaService, topic_prefix: str, level: Wish) -> Topics:
    return Topics(real_kafka.bootstrap_servers, topic_prefix, level)


@pytest.fixture
def closing() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def source(topics: Topics, *, lanes: int = 2, **more: Any) -> LaneSource:
    return LaneSource(
        bootstrap_servers=topics.servers,
        lanes=lanes,
        tables=[topics.table],
        streams=[topics.stream],
        clock=SystemClock(),
        stop=more.pop("stop", lambda: False),
        level=topics.level,
        **more,
    )


def open_lane(
    closing: ExitStack, of: LaneSource, lane: int, resume: dict[str, Any] | None = None
) -> LanePartition:
    part = of.build_part("read_lanes", f"{lane:03d}", resume)
    closing.callback(part.close)
    return part


def read(part: LanePartition, count: int) -> list[RawBlock]:
    """Blocks until they hold `count` messages."""
    blocks: list[RawBlock] = []
    deadline_s = time.monotonic() + WAIT_S_MAX
    while sum(len(block.values) for block in blocks) < count:
        assert time.monotonic() < deadline_s, f"found {len(blocks)} blocks"
        found = [block for _, block in part.next_batch()]
        blocks += found
        if not found:
            time.sleep(0.005)
    return blocks


def numbers(blocks: list[RawBlock], topic: str) -> list[int]:
    return [
        int(value or b"-1") for block in blocks if block.topic == topic for value in block.values
    ]


def grow(admin: AdminClient, topic: str, partitions: int) -> None:
    for future in admin.create_partitions([NewPartitions(topic, partitions)]).values():
        future.result(WAIT_S_MAX)


def test_every_message_is_read_once_by_the_lane_of_its_partition(
    topics: Topics, closing: ExitStack
) -> None:
    topics.send(topics.table, 40)
    topics.send(topics.stream, 1_000)
    lanes = source(topics)

    for lane in (0, 1):
        blocks = read(open_lane(closing, lanes, lane), 520)

        mine = [n for n in range(1_000) if n % PARTITIONS % 2 == lane]
        assert mine == sorted(numbers(blocks, topics.stream))
        assert [n for n in mine if n < 40] == sorted(numbers(blocks, topics.table))
        assert {lane} == {block.lane for block in blocks}


def test_order_within_a_partition_is_kept(topics: Topics, closing: ExitStack) -> None:
    topics.send(topics.stream, 2_000)
    blocks = read(open_lane(closing, source(topics, block_messages_max=128), 0), 1_000)

    for partition in (0, 2):
        offsets = [
            offset
            for block in blocks
            for number, offset in zip(block.partitions, block.offsets, strict=True)
            if number == partition
        ]
        assert list(range(500)) == offsets


def test_tables_are_read_whole_before_the_first_stream_message(
    topics: Topics, closing: ExitStack
) -> None:
    topics.send(topics.stream, 400)
    topics.send(topics.table, 2_000)

    blocks = read(open_lane(closing, source(topics, block_messages_max=100), 0), 1_200)

    kinds = [block.topic for block in blocks]
    first_stream = kinds.index(topics.stream)
    before = blocks[:first_stream]
    assert 1_000 == len(numbers(before, topics.table))


def test_a_resumed_lane_goes_on_at_its_offsets_and_reads_tables_again(
    topics: Topics, closing: ExitStack
) -> None:
    topics.send(topics.table, 8)
    topics.send(topics.stream, 100)
    lanes = source(topics)
    first = open_lane(closing, lanes, 0)
    read(first, 54)
    state = first.snapshot()
    topics.send(topics.stream, 20, first=100)

    blocks = read(open_lane(closing, lanes, 0, state), 14)

    assert [n for n in range(100, 120) if n % 2 == 0] == sorted(numbers(blocks, topics.stream))
    assert [0, 2, 4, 6] == sorted(numbers(blocks, topics.table))


def test_keys_headers_and_timestamps_arrive_as_sent(topics: Topics, closing: ExitStack) -> None:
    message = {
        "topic": topics.stream,
        "value": None,
        "key": None,
        "partition": 0,
        "timestamp": 123_456,
        "headers": [("a", b"\xff\x00"), ("a", None), ("empty", b"")],
    }
    send_all(topics.producer, [message])

    [block] = read(open_lane(closing, source(topics), 0), 1)

    assert [None] == block.values
    assert [None] == block.keys
    assert [123_456] == block.timestamps
    assert [[("a", b"\xff\x00"), ("a", None), ("empty", b"")]] == block.headers


def test_headers_are_found_behind_any_key_and_value(topics: Topics, closing: ExitStack) -> None:
    """The native level reads them where they were fetched, but behind neither key nor value."""
    parts = [(key, value) for key in (None, b"", b"k") for value in (None, b"", b"v" * 300)]
    named = [("n", b"%d" % n) for n in range(80)]
    lists: list[list[Header]] = [[], [("a", None), ("ü", b"")], [*named, ("x" * 300, b"v" * 5_000)]]
    sent = [(key, value, headers) for key, value in parts for headers in lists] * 10
    records = [
        {"topic": topics.stream, "partition": 0, "key": key, "value": value, "headers": headers}
        for key, value, headers in sent
    ]
    send_all(topics.producer, records)
    part = open_lane(closing, source(topics), 0)

    blocks = read(part, len(sent))

    assert [headers or None for *_, headers in sent] == [
        headers or None for block in blocks for headers in block.headers
    ]
    assert [(key or None, value or None) for key, value, _ in sent] == [
        (key or None, value or None)
        for block in blocks
        for key, value in zip(block.keys, block.values, strict=True)
    ]
    if topics.level == "native":
        batches: list[Any] = [block.headers for block in blocks]
        # Nothing before them, or no header at all.
        asked = sum(not headers or not (key or value) for key, value, headers in sent)
        assert asked == sum(batch.asked() for batch in batches)


def test_a_lane_that_is_told_to_stop_ends(topics: Topics, closing: ExitStack) -> None:
    part = open_lane(closing, source(topics, stop=lambda: True), 0)

    with pytest.raises(StopIteration):
        part.next_batch()


def test_a_partition_far_ahead_waits_for_the_slowest_and_nothing_is_lost(
    topics: Topics, closing: ExitStack
) -> None:
    hour_ms = 3_600_000
    for step in range(20):
        topics.send(topics.stream, 200, first=step * 200, at_ms=1_000 + step * hour_ms)
    part = open_lane(closing, source(topics, lanes=1, block_messages_max=50, ahead_s_max=60), 0)

    blocks = read(part, 4_000)

    assert list(range(4_000)) == sorted(numbers(blocks, topics.stream))


def test_a_partition_that_is_read_up_holds_nobody_back(topics: Topics, closing: ExitStack) -> None:
    """Its end may be reported in the same batch as its last message."""
    part = open_lane(closing, source(topics, lanes=1, ahead_s_max=60), 0)
    topics.send(topics.stream, 4, at_ms=1_000)
    read(part, 4)
    topics.send(topics.stream, 4, first=4, at_ms=1_000)
    time.sleep(1.0)  # so that messages and ends are both waiting
    read(part, 4)
    for step in range(1, 6):
        # Only one partition goes on, hours ahead of the others.
        for number in range(50):
            topics.producer.produce(
                topics.stream, b"%d" % number, partition=0, timestamp=step * 3_600_000
            )
        assert topics.producer.flush(WAIT_S_MAX) == 0
        read(part, 50)
        time.sleep(0.6)  # so that the lane looks around


def test_what_is_in_hand_is_quiet_in_no_block(topics: Topics, closing: ExitStack) -> None:
    """Time moves past quiet partitions; the messages of one look must not be passed by it."""
    part = open_lane(closing, source(topics, lanes=1, quiet_s=0.0), 0)
    topics.send(topics.stream, 8)
    read(part, 8)
    deadline_s = time.monotonic() + WAIT_S_MAX
    found, beside = 0, 0
    while not beside:
        assert time.monotonic() < deadline_s, f"{found} messages, never of two topics at once"
        topics.send(topics.table, 8)
        topics.send(topics.stream, 8)
        time.sleep(0.2)  # so that both are there at one look
        blocks = [block for _, block in part.next_batch()]
        taken = {(block.topic, number) for block in blocks for number in block.partitions}
        found += sum(len(block.values) for block in blocks)
        beside += len(blocks) > 1
        assert all(taken.isdisjoint(block.quiet) for block in blocks)


def test_what_is_not_committed_is_not_missed(
    real_topics: Topics, closing: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lane reads what is committed, and is told ends of that, however long others take."""
    topics = real_topics
    monkeypatch.setattr(silence, "SILENT_S", 0.0)
    topics.send(topics.stream, 8)
    part = open_lane(closing, source(topics, lanes=1, discover_s=0.2), 0)
    read(part, 8)
    other = Producer(
        {"bootstrap.servers": topics.servers, "transactional.id": f"{topics.stream}-other"}
    )
    other.init_transactions(WAIT_S_MAX)
    other.begin_transaction()
    for number in range(8):
        other.produce(topics.stream, b"%d" % number, partition=number % 4)
    assert other.flush(WAIT_S_MAX) == 0
    ends_s = time.monotonic() + 3.0
    while time.monotonic() < ends_s:
        assert [] == part.next_batch()
        time.sleep(0.02)
    other.commit_transaction(WAIT_S_MAX)

    monkeypatch.setattr(silence, "SILENT_S", 30.0)
    read(part, 8)
    monkeypatch.setattr(silence, "SILENT_S", 0.5)
    ends_s = time.monotonic() + 3.0
    while time.monotonic() < ends_s:  # the mark of the commit is behind the last message
        assert [] == part.next_batch()
        time.sleep(0.02)


def test_new_partitions_are_adopted_while_running(real_topics: Topics, closing: ExitStack) -> None:
    topics = real_topics
    topics.send(topics.stream, 8)
    part = open_lane(closing, source(topics, lanes=2, discover_s=0.2), 1)
    read(part, 4)
    admin = AdminClient({"bootstrap.servers": topics.servers})
    wanted = [NewPartitions(name, PARTITIONS + 2) for name in (topics.table, topics.stream)]
    for future in admin.create_partitions(wanted).values():
        future.result(WAIT_S_MAX)
    producer = Producer(
        {"bootstrap.servers": topics.servers, "topic.metadata.refresh.interval.ms": 500}
    )
    send_all(producer, [{"topic": topics.stream, "value": b"99", "partition": PARTITIONS + 1}])

    blocks = read(part, 1)

    assert [99] == numbers(blocks, topics.stream)


def test_topics_that_grow_one_by_one_stop_no_lane(real_topics: Topics, closing: ExitStack) -> None:
    """A lane that looks when the first has grown and the second has not: it waits, and reads on."""
    topics = real_topics
    part = open_lane(closing, source(topics, lanes=2, discover_s=0.2), 1)
    admin = AdminClient({"bootstrap.servers": topics.servers})
    grow(admin, topics.stream, PARTITIONS + 2)
    producer = Producer({"bootstrap.servers": topics.servers})
    send_all(producer, [{"topic": topics.stream, "value": b"98", "partition": PARTITIONS + 1}])
    deadline_s = time.monotonic() + WAIT_S_MAX
    while part._scout.uneven_looks < 2:
        assert time.monotonic() < deadline_s
        assert [] == part.next_batch()
        time.sleep(0.005)
    topics.send(topics.stream, 8)
    assert [1, 3, 5, 7] == sorted(numbers(read(part, 4), topics.stream))
    grow(admin, topics.table, PARTITIONS + 2)

    assert [98] == numbers(read(part, 1), topics.stream)
    assert 0 == part._scout.uneven_looks


def test_partitions_that_no_longer_share_out_stop_the_lane(
    real_topics: Topics, closing: ExitStack
) -> None:
    topics = real_topics
    part = open_lane(closing, source(topics, lanes=2, discover_s=0.2), 0)
    grow(AdminClient({"bootstrap.servers": topics.servers}), topics.stream, 5)

    with pytest.raises(ConfigError, match="partition counts 4, 5"):
        read(part, 1)


def test_an_offset_that_retention_took_stops_the_lane(
    real_topics: Topics, closing: ExitStack
) -> None:
    topics = real_topics
    topics.send(topics.stream, 400)
    admin = AdminClient({"bootstrap.servers": topics.servers})
    gone = [TopicPartition(topics.stream, 0, 50)]
    for future in admin.delete_records(gone).values():
        future.result(WAIT_S_MAX)
    state = {"version": 1, "next": {(topics.stream, 0): 10}}
    part = open_lane(closing, source(topics), 0, state)

    with pytest.raises(PermanentError, match="that offset is gone"):
        read(part, 400)


def test_a_topic_that_was_made_anew_stops_the_lane(topics: Topics, closing: ExitStack) -> None:
    """The embedded broker forgets its topics; a lane that goes on at an old offset would hang."""
    state = {"version": 1, "next": {(topics.stream, 0): 10}}
    part = open_lane(closing, source(topics), 0, state)

    with pytest.raises(PermanentError, match="that offset is gone"):
        read(part, 1)


# kafka-python reads its schemas in a way that Python 3.11 deprecates.
@pytest.mark.filterwarnings("ignore:.*_text is deprecated:DeprecationWarning")
def test_a_header_name_that_is_not_utf8_is_read_as_unreadable(
    kafka_service: KafkaService, topic_prefix: str, level: Wish, closing: ExitStack
) -> None:
    from kafka import KafkaProducer  # noqa: PLC0415 - another client, for this test only

    class Odd(str):
        __slots__ = ()

        def encode(self, *_: Any) -> bytes:
            return b"\xff\xfe"

    topics = Topics(kafka_service.bootstrap_servers, topic_prefix, level)
    producer = KafkaProducer(bootstrap_servers=topics.servers)
    producer.send(topics.stream, b"1", partition=0, headers=[(Odd("x"), b"y")]).get(WAIT_S_MAX)
    producer.close()

    [block] = read(open_lane(closing, source(topics), 0), 1)

    assert [[(UNREADABLE, None)]] == block.headers


def test_a_topic_that_is_missing_is_named(topics: Topics) -> None:
    lanes = source(topics)
    lanes.streams = ("nowhere.v1",)

    with pytest.raises(ConfigError, match=r'could not read topic "nowhere\.v1"'):
        lanes.build_part("read_lanes", "000", None)


def test_lanes_that_do_not_divide_the_partitions_are_refused(topics: Topics) -> None:
    with pytest.raises(ConfigError, match="a multiple of 3 lanes"):
        source(topics, lanes=3).build_part("read_lanes", "000", None)


def test_a_broker_that_does_not_answer_is_named_after_a_bounded_wait() -> None:
    lanes = LaneSource(
        bootstrap_servers="127.0.0.1:9",
        lanes=1,
        tables=[],
        streams=["a.v1"],
        clock=SystemClock(),
        stop=lambda: False,
        connect_tries=1,
    )

    with pytest.raises(TransientError, match=r'could not reach Kafka broker "127\.0\.0\.1:9"'):
        lanes.build_part("read_lanes", "000", None)


def test_a_state_of_another_version_is_refused(topics: Topics) -> None:
    with pytest.raises(PermanentError, match="offsets of version 99"):
        source(topics).build_part("read_lanes", "000", {"version": 99, "next": {}})
