"""Find where messages came to lie that Kafka confirmed without their offsets.

A batch that is sent again after a broken connection may be refused as a repeat: the broker has it,
and does not say where. librdkafka then counts it as delivered from offset -1 on, so that the second
message of the batch seems to lie at 0, the third at 1 (`rd_kafka_msgq_set_metadata`, 2.16).
"""

from __future__ import annotations

import time
from collections import defaultdict
from typing import Any, Final, NamedTuple

from confluent_kafka import Consumer, KafkaError, TopicPartition

from flows.simulate.events import Message

_BLOCK: Final = 2_000
_WAIT_S: Final = 0.5
_SEARCH_S_MAX: Final = 120.0

Partition = tuple[str, int]


class _Waiting(NamedTuple):
    """A message, and the first offset at which it may lie."""

    message: Message
    since: int


class Unplaced:
    """Tells places from what only looks like one, and keeps the messages without.

    State: two numbers for each partition, and the messages themselves; few, or none.
    """

    def __init__(self) -> None:
        self._newest: dict[Partition, int] = {}
        self._counted: dict[Partition, int] = {}
        self._waiting: dict[Partition, list[_Waiting]] = defaultdict(list)

    def left(self) -> list[Message]:
        """What has no place yet."""
        return [one.message for waiting in self._waiting.values() for one in waiting]

    def is_placed(self, message: Message, partition: int, offset: int | None) -> bool:
        """Tell whether a confirmed message lies there; else it is kept, and looked for later.

        Called once for each message of a partition, in its order.
        Errors: ValueError for an offset at or before the one of a message before it.
        """
        part = (message.topic, partition)
        newest = self._newest.get(part, -1)
        counted = self._counted.get(part)
        # What follows in the same batch counts on from -1; a true place would be further on, since
        # the messages of that batch are there, too.
        if offset is None or offset < 0 or offset == counted:
            self._counted[part] = 0 if offset is None or offset < 0 else offset + 1
            self._waiting[part].append(_Waiting(message, newest + 1))
            return False
        if offset <= newest:
            raise ValueError("an offset that another message has, or one before it")
        self._counted.pop(part, None)
        self._newest[part] = offset
        return True

    def find(self, config: dict[str, Any]) -> list[tuple[Message, int, int]]:
        """Read the partitions on from there, and find each message.

        Shapes: message, partition, offset; what is not found within the bound is left.
        Units: 120 s for each partition.
        Assumes that nobody else sends the same key, body, headers and time to the same topic.
        """
        own = {"group.id": "airside.simulator", "enable.auto.commit": False}
        ends = {"enable.partition.eof": True, "auto.offset.reset": "earliest"}
        consumer = Consumer({**config, **own, **ends})
        try:
            return [
                (message, part[1], offset)
                for part, waiting in self._waiting.items()
                for message, offset in _find_in(consumer, part, waiting)
            ]
        finally:
            consumer.close()


def _find_in(
    consumer: Consumer, part: Partition, waiting: list[_Waiting]
) -> list[tuple[Message, int]]:
    """Messages that are found leave `waiting`, in which `since` never falls."""
    found: list[tuple[Message, int]] = []
    deadline_s = time.monotonic() + _SEARCH_S_MAX
    if waiting:
        consumer.assign([TopicPartition(*part, waiting[0].since)])
    while waiting and time.monotonic() < deadline_s:
        for record in consumer.consume(_BLOCK, _WAIT_S):
            if (record.topic(), record.partition()) != part:
                continue
            error, offset = record.error(), record.offset() or 0
            # Not asked for before: the embedded broker tells an end that is too low.
            if error is not None and error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001
                return found
            for place, one in enumerate(waiting if error is None else ()):
                if one.since > offset:
                    break
                if _is(one.message, record):
                    found.append((one.message, offset))
                    del waiting[place]
                    break
    return found


def _is(message: Message, record: Any) -> bool:
    return (
        record.key() == message.key
        and record.value() == message.value
        and record.timestamp()[1] == message.timestamp_ms
        and (record.headers() or []) == [*message.headers]
    )
