"""Messages that Kafka confirmed without their offsets are found where they lie."""

from __future__ import annotations

from typing import Any

import pytest
from confluent_kafka import Producer

from flows.simulate.events import Message
from flows.simulate.unplaced import Unplaced
from tests.services import KafkaService
from tests.services_clients import make_topic, send_all

PARTITIONS = 3


def message(number: int, topic: str) -> Message:
    """Some are sent twice, to the same partition, alike in all that Kafka keeps."""
    same = number - PARTITIONS if number % 10 in (7, 8) else number
    return Message(
        number=number,
        topic=topic,
        key=None if same % 7 == 0 else b"k%d" % same,
        headers=[("ce_id", b"%d" % same), ("ce_id", b"x")] if same % 3 else [],
        value=None if same % 11 == 0 else b"v%d" % same,
        timestamp_ms=1_000 + same,
        id=str(number),
    )


def test_what_was_confirmed_without_a_place_is_found(
    kafka: KafkaService, topic_prefix: str
) -> None:
    topic = make_topic(kafka.bootstrap_servers, f"{topic_prefix}world", partitions=PARTITIONS)
    sent = [message(number, topic) for number in range(300)]
    send(kafka, sent)
    unplaced, hidden = Unplaced(), []
    counted = [-1] * PARTITIONS
    for one in sent:
        part, offset = one.number % PARTITIONS, one.number // PARTITIONS
        if one.number < 30 or 100 <= one.number < 140 or one.number % 50 == 48:
            # As the client reports a batch that was refused as a repeat.
            assert not unplaced.is_placed(one, part, counted[part] if counted[part] >= 0 else None)
            counted[part] += 1
            hidden.append((one, part, offset))
        else:
            assert unplaced.is_placed(one, part, offset)
            counted[part] = -1
    never = message(1_000, topic)
    unplaced.is_placed(never, 1, None)
    unplaced.is_placed(message(1_003, topic), 1, 0)

    found = unplaced.find({"bootstrap.servers": kafka.bootstrap_servers})

    assert hidden == sorted(found, key=lambda place: place[0].number)
    assert [never, message(1_003, topic)] == unplaced.left()


def test_a_place_before_one_that_was_told_is_none() -> None:
    unplaced = Unplaced()
    assert unplaced.is_placed(message(0, "t"), 0, 5)
    assert unplaced.is_placed(message(1, "t"), 1, 0)
    for offset in (5, 3):
        with pytest.raises(ValueError, match="another message"):
            unplaced.is_placed(message(3, "t"), 0, offset)


def send(kafka: KafkaService, messages: list[Message]) -> None:
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers})
    records: list[dict[str, Any]] = [
        {
            "topic": one.topic,
            "partition": one.number % PARTITIONS,
            "key": one.key,
            "value": one.value,
            "headers": one.headers,
            "timestamp": one.timestamp_ms,
        }
        for one in messages
    ]
    send_all(producer, records)
