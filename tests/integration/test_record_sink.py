"""The idempotent sink on a running broker: confirmed or loud."""

from __future__ import annotations

import pytest

from connectors.kafka.sink import RecordPartition, RecordSink
from connectors.native.level import Wish
from schemas.blocks import Origin, OutRecord
from schemas.errors import PermanentError
from tests.records import by_column
from tests.services import Breakable, KafkaService
from tests.services_clients import make_topic, read_committed


def open_sink(servers: str, level: Wish, **more: float) -> RecordPartition:
    sink = RecordSink(bootstrap_servers=servers, lanes=1, level=level, **more)  # type: ignore[arg-type]
    return sink.open_lane(0)


def record(topic: str, number: int, value: bytes = b"{}") -> OutRecord:
    headers: list[tuple[str, bytes | None]] = [("n", b"%d" % number), ("null", None)]
    return OutRecord(topic, b"k", value, headers, Origin("in.v1", 0, number))


def test_what_was_confirmed_is_there_in_order(
    kafka: KafkaService, topic_prefix: str, level: Wish
) -> None:
    topic = make_topic(kafka.bootstrap_servers, f"{topic_prefix}out")
    part = open_sink(kafka.bootstrap_servers, level)
    part.write_batch([[record(topic, n) for n in range(500)], [record(topic, 500)]])
    part.snapshot()

    messages = read_committed(kafka.bootstrap_servers, topic, 501)

    expected = [[("n", b"%d" % n), ("null", None)] for n in range(501)]
    assert expected == [message.headers() for message in messages]


def test_records_by_column_arrive_as_they_would_one_by_one(
    kafka: KafkaService, topic_prefix: str, level: Wish
) -> None:
    topic = make_topic(kafka.bootstrap_servers, f"{topic_prefix}out")
    records = by_column(topic)
    part = open_sink(kafka.bootstrap_servers, level)
    part.write_batch([records, records])
    part.snapshot()

    messages = read_committed(kafka.bootstrap_servers, topic, 2 * len(records))

    expected = [(one.key, one.value, one.headers) for one in 2 * records.as_list()]
    assert expected == [(one.key(), one.value(), one.headers()) for one in messages]


def test_records_by_column_stay_in_order_through_a_queue_with_little_room(
    kafka: KafkaService, topic_prefix: str, level: Wish
) -> None:
    """So calls end anywhere: among those by column, at their end, among those behind them."""
    topic = make_topic(kafka.bootstrap_servers, f"{topic_prefix}out")
    records = by_column(topic)
    part = open_sink(kafka.bootstrap_servers, level, queue_messages_max=3)
    part.write_batch([records] * 12)
    part.snapshot()

    messages = read_committed(kafka.bootstrap_servers, topic, 12 * len(records))

    expected = [(one.key, one.value, one.headers) for one in 12 * records.as_list()]
    assert expected == [(one.key(), one.value(), one.headers()) for one in messages]


def test_a_topic_that_is_missing_stops_the_worker(
    real_kafka: KafkaService, topic_prefix: str, level: Wish
) -> None:
    """On Apache Kafka only: the embedded broker creates a topic that is written to."""
    part = open_sink(real_kafka.bootstrap_servers, level, delivery_s_max=3.0)

    with pytest.raises(PermanentError, match="could not publish to topic"):
        part.write_batch([[record(f"{topic_prefix}nowhere", 1)]])
        part.snapshot()


def test_a_record_that_is_too_large_stops_the_worker(
    kafka: KafkaService, topic_prefix: str, level: Wish
) -> None:
    topic = make_topic(kafka.bootstrap_servers, f"{topic_prefix}small")
    part = open_sink(kafka.bootstrap_servers, level)

    with pytest.raises(PermanentError, match="MSG_SIZE_TOO_LARGE"):
        part.write_batch([[record(topic, 1, b"x" * 9_000_000)]])


def test_a_broker_that_goes_away_makes_the_epoch_fail_and_not_pass(
    breakable_kafka: Breakable, topic_prefix: str, level: Wish
) -> None:
    """The library's own sink loses these records and commits the epoch (engine research 1)."""
    topic = make_topic(breakable_kafka.bootstrap_servers, f"{topic_prefix}out")
    part = open_sink(breakable_kafka.bootstrap_servers, level, delivery_s_max=5.0)
    part.write_batch([[record(topic, 1)]])
    part.snapshot()
    breakable_kafka.pause()
    try:
        with pytest.raises(PermanentError, match="could not publish to"):
            part.write_batch([[record(topic, 2)]])
            part.snapshot()
    finally:
        breakable_kafka.resume()


def test_a_broker_that_comes_back_in_time_gets_everything_once(
    breakable_kafka: Breakable, topic_prefix: str, level: Wish
) -> None:
    topic = make_topic(breakable_kafka.bootstrap_servers, f"{topic_prefix}out")
    part = open_sink(breakable_kafka.bootstrap_servers, level, delivery_s_max=60.0)
    part.write_batch([[record(topic, n) for n in range(100)]])
    breakable_kafka.restart()
    part.write_batch([[record(topic, n) for n in range(100, 200)]])
    part.snapshot()

    messages = read_committed(breakable_kafka.bootstrap_servers, topic, 200)

    assert list(range(200)) == [
        int(dict(message.headers() or [])["n"] or b"") for message in messages
    ]
