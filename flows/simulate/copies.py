"""Read back the records of output topics: where each came from, and whether it is unchanged."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple, cast

import orjson
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Message, TopicPartition

from connectors.kafka.client import client_config, read_metadata
from flows.simulate.truth import Place, checksum
from schemas.blocks import CONTROL_HEADER
from schemas.errors import PermanentError
from schemas.ticket import Header

ORIGIN_HEADER: Final = "airside-origin"
_ROUTED: Final = "ntf.routed."
_BATCH: Final = 2_000
_POLL_S: Final = 0.1


class Copy(NamedTuple):
    """One record of an output topic.

    Shapes: `place` is its origin, None when it names none; `code` is that of a refused message's
    notice, empty for a routed one; `check` the CRC-32 of key and body.
    """

    topic: str
    place: Place | None
    check: int
    code: str = ""


def place_of(origin: bytes | None) -> Place | None:
    """Read an origin header; None for what is not one.

    >>> place_of(b"ntf.requests.v1/3/120/0")
    ('ntf.requests.v1', 3, 120)
    """
    parts = (origin or b"").decode("utf-8", "replace").split("/")
    try:
        topic, partition, offset, _ordinal = parts
        return (topic, int(partition), int(offset))
    except ValueError:
        return None


def copy_of(
    topic: str,
    key: bytes | None,
    value: bytes | None,
    headers: Sequence[Header],
) -> Copy:
    """What verification needs of one record."""
    origin = next((text for name, text in headers if name == ORIGIN_HEADER), None)
    place = place_of(origin)
    if topic.startswith(_ROUTED):
        return Copy(topic, place, checksum(key, value))
    try:
        code = str(orjson.loads(value or b"")["code"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        code = "missing"
    return Copy(topic, place, 0, code)


def open_reader(bootstrap_servers: str, extra: Mapping[str, str]) -> Consumer:
    """A consumer that belongs to no group and sees committed records only."""
    return Consumer(
        {
            **client_config(bootstrap_servers, extra),
            "group.id": "airside.reader",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
            "fetch.wait.max.ms": 50,
        }
    )


def places_in(
    consumer: Consumer, bootstrap_servers: str, topics: Sequence[str], offset: int
) -> list[TopicPartition]:
    """All partitions of some topics, to be read from an offset."""
    metadata = read_metadata(consumer, bootstrap_servers=bootstrap_servers, tries=3)
    return [
        TopicPartition(topic, number, offset)
        for topic in topics
        if topic in metadata.topics
        for number in metadata.topics[topic].partitions
    ]


def read_copies(
    bootstrap_servers: str,
    *,
    topics: Sequence[str],
    expected: int,
    extra: Mapping[str, str],
    idle_s: float = 10.0,
    rest_s: float = 1.0,
) -> Iterator[Copy]:
    """Every record of some topics, from their beginning.

    Ends when nothing came for `rest_s` after `expected` different origins, or for `idle_s`
    before: some brokers report the ends of their partitions short, so they are not asked.
    Errors: TransientError when no broker answers; PermanentError when one ends a partition.
    """
    consumer = open_reader(bootstrap_servers, extra)
    try:
        consumer.assign(places_in(consumer, bootstrap_servers, topics, OFFSET_BEGINNING))
        seen: set[Place | None] = set()
        moved_s = time.monotonic()
        while True:
            messages = consumer.consume(_BATCH, _POLL_S)
            for message in messages:
                copy = _read(message)
                if copy is not None:
                    seen.add(copy.place)
                    yield copy
            if messages:
                moved_s = time.monotonic()
            elif time.monotonic() - moved_s >= (rest_s if len(seen) >= expected else idle_s):
                return
    finally:
        consumer.close()


def headers_in(message: Message) -> list[Header]:
    """The headers of a record that was read, for which clients give a list of pairs."""
    return cast("list[Header]", message.headers() or [])


def _read(message: Message) -> Copy | None:
    error = message.error()
    topic = message.topic() or ""
    if error is None:
        headers = headers_in(message)
        if any(name == CONTROL_HEADER for name, _ in headers):
            return None  # it ends a transaction, and says nothing
        return copy_of(topic, message.key(), message.value(), headers)
    if error.fatal() or error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
        raise PermanentError(
            do="read", kind="topic", name=topic, found=f"Kafka error {error.name()}"
        )
    return None  # the end of a partition, or a passing fault: the client goes on by itself
