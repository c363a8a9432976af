"""Where a lane keeps how far its outputs are committed: the offsets of a group, and a copy.

Kafka has them, since they are committed with the records. Bytewax saves them with each epoch, too:
what it saved was committed. The copy tells what was meant when Kafka forgot to end the transaction
that holds the group's offsets, and keeps it when Kafka forgets a group that was idle for long.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from connectors.kafka.lane_state import Place
from connectors.kafka.spans import raise_if_unknown
from schemas.errors import PermanentError

VERSION: Final = 1

Mark = dict[Place, int]


class Found(NamedTuple):
    """What Kafka tells: the offsets that are committed, and whether a transaction holds others.

    Units: `at_ms` is when the newest of them was committed, 0 when that is not known.
    """

    mark: Mark
    is_held: bool
    at_ms: int = 0


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
    """The offsets of one group in Kafka. State: a consumer that never joins the group."""

    def __init__(self, config: Mapping[str, Any], group: str) -> None:
        self._config = {
            **config,
            "group.id": group,
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
        }
        self._consumer = Consumer(self._config)

    def places(
        self, sources: Sequence[str], lane: int, lanes: int, answer_s: float
    ) -> list[TopicPartition]:
        """The lane's input partitions.

        Errors: KafkaException when the brokers do not answer in time, or do not know yet.
        """
        topics = self._consumer.list_topics(timeout=answer_s).topics
        raise_if_unknown(topics, sources)
        return [
            TopicPartition(topic, number)
            for topic in sources
            if topic in topics
            for number in range(lane, len(topics[topic].partitions), lanes)
        ]

    def read(self, places: Sequence[TopicPartition], answer_s: float) -> Found:
        """What is committed for these partitions; may take three times `answer_s`.

        While a transaction holds offsets of the group, Kafka answers only who does not mind. Once
        could be a broker that is busy, or a client that hangs, so another one asks again.
        Errors: KafkaException when the broker does not answer.
        """
        try:
            return _ask(self._consumer, places, answer_s)
        except KafkaException as err:
            if not _is_silence(err):
                raise
        found = self._ask_anew(places, answer_s, "read_uncommitted")
        try:
            return self._ask_anew(places, answer_s, "read_committed")
        except KafkaException as err:
            if not _is_silence(err):
                raise
        return found._replace(is_held=True)

    def _ask_anew(self, places: Sequence[TopicPartition], answer_s: float, level: str) -> Found:
        consumer = Consumer({**self._config, "isolation.level": level})
        try:
            return _ask(consumer, places, answer_s)
        finally:
            consumer.close()

    def wake(self, places: Sequence[TopicPartition], answer_s: float) -> None:
        """Return once the group has a coordinator that answers, whatever it has to wait for.

        Errors: KafkaException when none does.
        """
        self._ask_anew(places, answer_s, "read_uncommitted")

    def group(self) -> Any:
        """What a transaction has to be told of the group."""
        return self._consumer.consumer_group_metadata()

    def close(self) -> None:
        """Let the broker go."""
        self._consumer.close()


def offsets_of(mark: Mapping[Place, int], *, at_ms: int = 0) -> list[TopicPartition]:
    """A watermark as the client takes it, with the time of its commit beside each offset."""
    told = str(at_ms or time.time_ns() // 1_000_000)
    return [TopicPartition(*place, offset, told) for place, offset in mark.items()]


def _is_silence(err: KafkaException) -> bool:
    return bool(err.args[0].code() == KafkaError._TIMED_OUT)  # noqa: SLF001 - its name


def _ask(consumer: Consumer, places: Sequence[TopicPartition], answer_s: float) -> Found:
    found = consumer.committed([*places], timeout=answer_s)
    for part in found:
        if part.error is not None:
            raise KafkaException(part.error)
    mark = {(part.topic, part.partition): part.offset for part in found if part.offset > 0}
    told = [part.metadata or "" for part in found]
    return Found(mark, False, max((int(at) for at in told if at.isdecimal()), default=0))
