"""Kafka clients that are not ours against the broker of the embedded stack."""

from __future__ import annotations

import asyncio
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka import TopicPartition as AioPartition
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined] # it re-exports silently
    AdminClient,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from connectors.embedded.broker import EmbeddedBroker

with warnings.catch_warnings():
    # It reads its message descriptions through importlib.resources.read_text while it is
    # imported, which Python 3.11 calls deprecated; that is kafka-python's to change, not ours.
    warnings.simplefilter("ignore", DeprecationWarning)
    import kafka

pytestmark = pytest.mark.kafka

HEADERS = [("ce_id", b"01J"), ("binary", b"\xff\x00"), ("ce_id", b"again"), ("empty", b"")]
WAIT_S_MAX = 30.0


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker(data_dir=tmp_path_factory.mktemp("broker")) as running:
        yield running


@pytest.fixture
def topic(broker: EmbeddedBroker, request: pytest.FixtureRequest) -> str:
    name = f"airside.{request.node.name[:60].replace('[', '-').replace(']', '')}"
    create(broker, name)
    return name


def create(broker: EmbeddedBroker, name: str, **config: str) -> None:
    admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers})
    admin.create_topics([NewTopic(name, 12, 1, config=config)])[name].result(WAIT_S_MAX)


def produce(broker: EmbeddedBroker, topic: str, *messages: dict[str, Any]) -> None:
    failures: list[KafkaError] = []
    producer = Producer(
        {"bootstrap.servers": broker.bootstrap_servers, "message.max.bytes": 9_000_000}
    )
    for message in messages:
        producer.produce(
            topic, on_delivery=lambda error, _: failures.append(error) if error else None, **message
        )

    assert producer.flush(WAIT_S_MAX) == 0
    assert failures == []


def consume(broker: EmbeddedBroker, topic: str, partition: int) -> list[Any]:
    """Read one partition to its end, known by the end-of-partition event."""
    consumer = Consumer(
        {
            "bootstrap.servers": broker.bootstrap_servers,
            "group.id": "reader",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "fetch.message.max.bytes": 10_000_000,
        }
    )
    consumer.assign([TopicPartition(topic, partition, 0)])
    found: list[Any] = []
    deadline = time.monotonic() + WAIT_S_MAX
    try:
        while time.monotonic() < deadline:
            message = consumer.poll(1.0)
            if message is None:
                continue
            error = message.error()
            if error is None:
                found.append(message)
            elif error.code() == KafkaError._PARTITION_EOF:
                return found
            else:
                raise KafkaException(error)
    finally:
        consumer.close()
    raise TimeoutError


def test_kafka_python_produces_and_consumes(broker: EmbeddedBroker, topic: str) -> None:
    producer = kafka.KafkaProducer(bootstrap_servers=broker.bootstrap_servers)
    sent = producer.send(topic, b"body", b"key", headers=HEADERS, partition=3, timestamp_ms=1_234)
    sent.get(timeout=WAIT_S_MAX)
    producer.close()
    consumer = kafka.KafkaConsumer(bootstrap_servers=broker.bootstrap_servers)
    consumer.assign([kafka.TopicPartition(topic, 3)])
    consumer.seek_to_beginning()
    found = next(consumer)
    consumer.close()

    assert (found.key, found.value, found.timestamp) == (b"key", b"body", 1_234)
    assert [tuple(header) for header in found.headers] == HEADERS


def test_aiokafka_produces_and_consumes(broker: EmbeddedBroker, topic: str) -> None:
    async def work() -> Any:
        async with AIOKafkaProducer(bootstrap_servers=broker.bootstrap_servers) as producer:
            await producer.send_and_wait(
                topic, b"body", b"key", headers=HEADERS, partition=3, timestamp_ms=1_234
            )
        consumer = AIOKafkaConsumer(bootstrap_servers=broker.bootstrap_servers)
        async with consumer:
            consumer.assign([AioPartition(topic, 3)])
            await consumer.seek_to_beginning()
            return await asyncio.wait_for(consumer.getone(), WAIT_S_MAX)

    found = asyncio.run(work())

    assert (found.key, found.value, found.timestamp) == (b"key", b"body", 1_234)
    assert list(found.headers) == HEADERS


def test_null_and_empty_are_kept_apart(broker: EmbeddedBroker, topic: str) -> None:
    produce(
        broker,
        topic,
        {"partition": 0, "key": None, "value": None},
        {"partition": 0, "key": b"", "value": b"", "headers": [("none", None), ("empty", b"")]},
    )
    first, second = consume(broker, topic, 0)

    assert (first.key(), first.value(), first.headers()) == (None, None, None)
    assert (second.key(), second.value()) == (b"", b"")
    assert second.headers() == [("none", None), ("empty", b"")]


def test_a_body_of_four_megabytes_passes(broker: EmbeddedBroker, topic: str) -> None:
    produce(broker, topic, {"partition": 1, "value": b"x" * 4_194_304})

    assert [len(found.value()) for found in consume(broker, topic, 1)] == [4_194_304]


def test_the_end_of_a_partition_is_where_its_messages_end(
    broker: EmbeddedBroker, topic: str
) -> None:
    """The end offset in metadata may be short; the end-of-partition event is not."""
    produce(broker, topic, *({"partition": 2, "value": b"%d" % n} for n in range(5_000)))

    assert [found.offset() for found in consume(broker, topic, 2)] == list(range(5_000))


def test_topics_keep_partitions_and_settings(broker: EmbeddedBroker) -> None:
    create(broker, "airside.kept", **{"cleanup.policy": "compact", "retention.ms": "60000"})
    admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers})
    resource = ConfigResource(ResourceType.TOPIC, "airside.kept")
    (described,) = admin.describe_configs([resource]).values()
    entries = {name: entry.value for name, entry in described.result(WAIT_S_MAX).items()}

    assert (
        len(admin.list_topics("airside.kept", WAIT_S_MAX).topics["airside.kept"].partitions) == 12
    )
    assert entries["cleanup.policy"] == "compact"
    assert entries["retention.ms"] == "60000"


def test_a_deleted_topic_is_gone_and_comes_back_empty(broker: EmbeddedBroker, topic: str) -> None:
    produce(broker, topic, {"partition": 0, "value": b"old"})
    admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers})
    admin.delete_topics([topic])[topic].result(WAIT_S_MAX)

    assert topic not in admin.list_topics(timeout=WAIT_S_MAX).topics

    create(broker, topic)

    assert consume(broker, topic, 0) == []


def test_eight_producers_work_side_by_side(broker: EmbeddedBroker, topic: str) -> None:
    def work(who: int) -> None:
        produce(broker, topic, *({"partition": who, "value": b"%d" % n} for n in range(500)))

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(8)))

    for who in range(8):
        values = [found.value() for found in consume(broker, topic, who)]
        assert values == [b"%d" % n for n in range(500)]


def test_a_broker_that_is_gone_is_not_healthy(tmp_path: Path) -> None:
    broker = EmbeddedBroker(data_dir=tmp_path)

    assert not broker.healthy()

    with broker:
        assert broker.healthy()
