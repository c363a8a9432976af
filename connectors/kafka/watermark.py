"""Where a lane keeps how far its outputs are committed: the offsets of a group, and a copy.

Kafka has them, since they are committed with the records. Bytewax saves them with each epoch, too:
what it saved was committed. The copy tells what was meant when Kafka forgot to end the transaction
that holds the group's offsets, and keeps it when Kafka forgets a group that was idle for long.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from connectors.kafka.lane_state import Place
from schemas.errors import PermanentError

VERSION: Final = 1

_DOUBTS: Final = 2

Mark = dict[Place, int]


class Found(NamedTuple):
    """What Kafka tells: the offsets that are committed, and whether a transaction holds others."""

    mark: Mark
    is_held: bool


def dump_mark(mark: Mapping[Place, int]) -> dict[str, Any]:
    """A watermark to be saved; a copy, whatever follows."""
    return {"version": VERSION, "next": dict(mark)}


def load_mark(saved: dict[str, Any] | None, lane: int) -> Mark:
    """A watermark that was saved; empty when it is of a release that saved none.

    Errors: PermanentError for a version that this release does not know.
    """
    if saved is None:
        return {}
    if saved["version"] != VERSION:
        raise PermanentError(
            do="resume",
            kind="transactions of lane",
            name=str(lane),
            found=f"a watermark of version {saved['version']}",
            expected=f"version {VERSION}",
            hint="run the release that wrote it",
        )
    return dict(saved["next"])


def newest(*marks: Mapping[Place, int]) -> Mark:
    """The furthest of all for each place.

    >>> newest({("t", 0): 3, ("t", 1): 1}, {("t", 0): 2, ("t", 2): 5})
    {('t', 0): 3, ('t', 1): 1, ('t', 2): 5}
    """
    found: Mark = {}
    for mark in marks:
        for place, offset in mark.items():
            found[place] = max(found.get(place, 0), offset)
    return found


class Watermark:
    """The offsets of one group in Kafka.

    State: how often Kafka did not answer who asks for what no transaction holds.
    """

    def __init__(self, config: Mapping[str, Any], group: str) -> None:
        self._config = {**config, "group.id": group, "enable.auto.commit": False}
        self._stable = Consumer(self._config)
        self._doubts = 0

    def places(
        self, sources: Sequence[str], lane: int, lanes: int, answer_s: float
    ) -> list[TopicPartition]:
        """The lane's input partitions.

        Errors: KafkaException when the brokers do not answer in time.
        """
        topics = self._stable.list_topics(timeout=answer_s).topics
        return [
            TopicPartition(topic, number)
            for topic in sources
            if topic in topics
            for number in range(lane, len(topics[topic].partitions), lanes)
        ]

    def read(self, places: Sequence[TopicPartition], answer_s: float) -> Found:
        """What is committed for these partitions; a try, to be repeated.

        Kafka gives no answer while a transaction holds offsets of the group, but to who does not
        mind. Once could be a broker that is busy.
        Errors: KafkaException when the broker does not answer, or did not for the first time.
        """
        try:
            return Found(_ask(self._stable, places, answer_s), is_held=False)
        except KafkaException as err:
            if err.args[0].code() != KafkaError._TIMED_OUT:  # noqa: SLF001 - its name
                raise
            found = self._ask_loosely(places, answer_s)
            self._doubts += 1
            if self._doubts < _DOUBTS:
                raise
            return Found(found, is_held=True)

    def _ask_loosely(self, places: Sequence[TopicPartition], answer_s: float) -> Mark:
        consumer = Consumer({**self._config, "isolation.level": "read_uncommitted"})
        try:
            return _ask(consumer, places, answer_s)
        finally:
            consumer.close()

    def group(self) -> Any:
        """What a transaction has to be told of the group."""
        return self._stable.consumer_group_metadata()

    def close(self) -> None:
        """Let the broker go."""
        self._stable.close()


def offsets_of(mark: Mapping[Place, int]) -> list[TopicPartition]:
    """A watermark as the client takes it."""
    return [TopicPartition(*place, offset) for place, offset in mark.items()]


def _ask(consumer: Consumer, places: Sequence[TopicPartition], answer_s: float) -> Mark:
    found = consumer.committed([*places], timeout=answer_s)
    for part in found:
        if part.error is not None:
            raise KafkaException(part.error)
    return {(part.topic, part.partition): part.offset for part in found if part.offset > 0}
