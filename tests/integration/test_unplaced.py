"""Messages that Kafka confirmed without their offsets are found where they lie."""

from __future__ import annotations

from typing import Any

from confluent_kafka import Producer

from flows.simulate.events import Message
from flows.simulate.unplaced import Unplaced
from tests.services import KafkaService
from tests.services_clients import make_topic, send_all

PARTITIONS = 3


def message(number: int, topic: str) -> Message:
    """Every fifth message is sent twice, alike in all that Kafka keeps."""
    same = number - number % 5 % 2
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
    for one in sent:
        place = (one, one.number % PARTITIONS, one.number // PARTITIONS)
        if 100 <= one.number < 140 or one.number >= 290 or one.number == 0:
            unplaced.add(one, place[1])
            hidden.append(place)
        else:
            unplaced.note_placed(topic, place[1], place[2])
    never = message(1_000, topic)
    unplaced.add(never, 1)

    found = unplaced.find({"bootstrap.servers": kafka.bootstrap_servers})

    assert hidden == sorted(found, key=lambda place: place[0].number)
    assert [never] == unplaced.left()


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
