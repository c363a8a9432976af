"""Find where messages came to lie that Kafka confirmed without their offsets.

A broker that restarts knows the numbers of a producer's last batch only. Sent again after a broken
connection, an older one is refused as a repeat: it is there, and the client does not learn where.
"""

from __future__ import annotations

import time
from collections import defaultdict, deque
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, TopicPartition

from flows.simulate.events import Message

_BLOCK: Final = 2_000
_WAIT_S: Final = 0.5
_SEARCH_S_MAX: Final = 60.0


class Unplaced:
    """Messages without a place, each with the newest place before it in its partition.

    State: one number for each partition, and the messages themselves; few, or none.
    """

    def __init__(self) -> None:
        self._newest: dict[tuple[str, int], int] = {}
        self._waiting: dict[tuple[str, int], deque[Message]] = defaultdict(deque)
        self._since: dict[tuple[str, int], int] = {}

    def __len__(self) -> int:
        return len(self.left())

    def note_placed(self, topic: str, partition: int, offset: int) -> None:
        """Note the place of a message that has one."""
        self._newest[topic, partition] = offset

    def add(self, message: Message, partition: int) -> None:
        """Keep a message, in the order of its partition."""
        part = (message.topic, partition)
        self._waiting[part].append(message)
        self._since.setdefault(part, self._newest.get(part, -1) + 1)

    def left(self) -> list[Message]:
        """What was not found."""
        return [message for waiting in self._waiting.values() for message in waiting]

    def find(self, config: dict[str, Any]) -> list[tuple[Message, int, int]]:
        """Read the partitions on from there, and find each message in its order.

        Shapes: message, partition, offset; what is not found within the bound is not in it.
        Assumes that nobody else sends the same key, body, headers and time to the same topic.
        """
        own = {"group.id": "airside.simulator", "enable.auto.commit": False}
        consumer = Consumer({**config, **own, "enable.partition.eof": True})
        deadline_s = time.monotonic() + _SEARCH_S_MAX
        try:
            return [
                (message, part[1], offset)
                for part, waiting in self._waiting.items()
                for message, offset in self._find_in(consumer, part, waiting, deadline_s)
            ]
        finally:
            consumer.close()

    def _find_in(
        self,
        consumer: Consumer,
        part: tuple[str, int],
        waiting: deque[Message],
        deadline_s: float,
    ) -> list[tuple[Message, int]]:
        found: list[tuple[Message, int]] = []
        consumer.assign([TopicPartition(*part, self._since[part])])
        while waiting and time.monotonic() < deadline_s:
            for record in consumer.consume(_BLOCK, _WAIT_S):
                if (record.topic(), record.partition()) != part:
                    continue
                error = record.error()
                # Not asked for before: the embedded broker tells an end that is too low.
                if error is not None and error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001
                    return found
                if error is None and waiting and _is(waiting[0], record):
                    found.append((waiting.popleft(), record.offset() or 0))
        return found


def _is(message: Message, record: Any) -> bool:
    return (
        record.key() == message.key
        and record.value() == message.value
        and record.timestamp()[1] == message.timestamp_ms
        and (record.headers() or []) == [*message.headers]
    )
