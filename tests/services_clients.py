"""The least a test needs of a Kafka client: make a topic, write one message, read some back."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from schemas.errors import TransientError

SECONDS_MAX: Final = 30
_UNKNOWN: Final = frozenset((KafkaError._UNKNOWN_PARTITION, KafkaError._UNKNOWN_TOPIC))

Headers = Sequence[tuple[str, str | bytes | None]]


def make_topic(bootstrap: str, name: str, *, partitions: int = 1) -> str:
    """Make a topic and wait until the broker leads all its partitions; return its name."""
    client = AdminClient({"bootstrap.servers": bootstrap})
    topic = NewTopic(name, num_partitions=partitions, replication_factor=1)
    client.create_topics([topic])[name].result(timeout=SECONDS_MAX)
    deadline = time.monotonic() + SECONDS_MAX
    while time.monotonic() < deadline:
        found = client.list_topics(name, timeout=SECONDS_MAX).topics[name].partitions.values()
        if len(found) == partitions and all(partition.leader >= 0 for partition in found):
            return name
        time.sleep(0.02)
    raise TransientError(do="make", kind="topic", name=name, found="partitions without a leader")


def produce(
    bootstrap: str,
    topic: str,
    value: bytes | None,
    *,
    key: bytes | None = None,
    headers: Headers = (),
    settings: Mapping[str, str | int] | None = None,
) -> None:
    """Write one message and wait until the broker has it."""
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "acks": "all",
            "message.timeout.ms": SECONDS_MAX * 1_000,
            **(settings or {}),
        }
    )
    failures: list[object] = []
    producer.produce(
        topic,
        value=value,
        key=key,
        headers=list(headers),
        on_delivery=lambda error, _message: failures.append(error) if error else None,
    )

    assert 0 == producer.flush(SECONDS_MAX)
    assert [] == failures


def send_all(producer: Producer, messages: Sequence[Mapping[str, Any]]) -> None:
    """Write messages, each as arguments of `Producer.produce`, and see that the broker has them.

    A client that does not know a new partition yet refuses a message at once: it is sent again.
    """
    deadline = time.monotonic() + SECONDS_MAX
    left = list(messages)
    while failed := _send(producer, left):
        assert [] == [error.name() for error in failed.values() if error.code() not in _UNKNOWN]
        assert time.monotonic() < deadline, "the client never knew the partition"
        left = [left[number] for number in sorted(failed)]
        time.sleep(0.05)
        producer.list_topics(timeout=SECONDS_MAX)


def _send(producer: Producer, messages: Sequence[Mapping[str, Any]]) -> dict[int, KafkaError]:
    """Which of them failed, and how."""
    failed: dict[int, KafkaError] = {}

    def noting(number: int) -> Callable[[KafkaError | None, Message], None]:
        def note(error: KafkaError | None, _message: Message) -> None:
            if error is not None:
                failed[number] = error

        return note

    for number, message in enumerate(messages):
        producer.produce(**message, on_delivery=noting(number))
    assert 0 == producer.flush(SECONDS_MAX)
    return failed


def read_committed(bootstrap: str, topic: str, count: int, *, partition: int = 0) -> list[Message]:
    """Read up to `count` messages of one partition from its start, no aborted ones."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": f"{topic}.readers",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
        }
    )
    try:
        consumer.assign([TopicPartition(topic, partition, 0)])
        messages = consumer.consume(count, timeout=SECONDS_MAX)
    finally:
        consumer.close()
    for message in messages:
        assert message.error() is None
    return messages
