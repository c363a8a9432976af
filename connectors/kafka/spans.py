"""Where partitions begin and end, and the messages between two offsets of each."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from confluent_kafka import (
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)
from confluent_kafka.admin import (  # type: ignore[attr-defined] # it re-exports silently
    AdminClient,
    OffsetSpec,
)

from connectors.kafka.lane_state import Place

_LOOK_S: Final = 0.05
_MESSAGES: Final = 1_000


class Span(NamedTuple):
    """Offsets of a partition: the first, and the one behind the last."""

    first: int
    end: int


def places_of(admin: AdminClient, topics: Sequence[str], answer_s: float) -> list[Place]:
    """All partitions of these topics; topics that are missing are left out.

    Errors: KafkaException when the brokers do not answer in time, or a topic has no leader yet.
    """
    known = admin.list_topics(timeout=answer_s).topics
    raise_if_unknown(known, topics)
    return [
        (topic, number)
        for topic in topics
        if topic in known and known[topic].error is None
        for number in known[topic].partitions
    ]


def raise_if_unknown(known: Mapping[str, Any], topics: Sequence[str]) -> None:
    """Make sure that the cluster's metadata tell of each topic that is there.

    Errors: KafkaException for one whose leaders are not known yet.
    """
    for topic in topics:
        error = known[topic].error if topic in known else None
        if error is not None and error.code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
            raise KafkaException(error)


def newest_ends(
    admin: AdminClient, places: Sequence[Place], level: IsolationLevel, answer_s: float
) -> dict[Place, int]:
    """Where partitions end; for READ_COMMITTED, where their first open transaction begins.

    Errors: KafkaException when the brokers do not answer in time.
    """
    latest = OffsetSpec.latest()  # type: ignore[no-untyped-call] # it has no types
    return _offsets(admin, places, latest, level, answer_s)


def first_since(
    admin: AdminClient, places: Sequence[Place], at_ms: int, answer_s: float
) -> dict[Place, int]:
    """The first offsets that were written at this time or later; -1 where nothing was.

    Errors: KafkaException when the brokers do not answer in time.
    """
    since = OffsetSpec.for_timestamp(at_ms)
    return _offsets(admin, places, since, IsolationLevel.READ_UNCOMMITTED, answer_s)


def _offsets(
    admin: AdminClient, places: Sequence[Place], spec: Any, level: IsolationLevel, answer_s: float
) -> dict[Place, int]:
    if not places:
        return {}
    asked = {TopicPartition(*place): spec for place in places}
    found = admin.list_offsets(asked, isolation_level=level, request_timeout=answer_s)
    return {(part.topic, part.partition): one.result().offset for part, one in found.items()}


def read_spans(
    config: Mapping[str, Any], spans: Mapping[Place, Span], level: str, *, wait_s_max: float
) -> Iterator[tuple[Place, Message]]:
    """The messages of these spans, those of a partition in order.

    `level` is "read_committed", for which a span ends before the first open transaction, or
    "read_uncommitted".
    Errors: KafkaException when they cannot be read in time.
    """
    left = {place for place, span in spans.items() if span.first < span.end}
    settings = {
        **config,
        "group.id": "airside.forgotten",
        "enable.auto.commit": False,
        "auto.offset.reset": "error",
        "enable.partition.eof": True,
        "isolation.level": level,
    }
    ends_s = time.monotonic() + wait_s_max
    consumer = Consumer(settings)
    try:
        consumer.assign([TopicPartition(*place, spans[place].first) for place in left])
        while left:
            if time.monotonic() > ends_s:
                raise KafkaException(KafkaError(KafkaError._TIMED_OUT))  # noqa: SLF001 - its name
            for message in consumer.consume(_MESSAGES, _LOOK_S):
                place = (message.topic() or "", message.partition() or 0)
                _raise_if_final(message)
                if place not in left:
                    continue
                offset, end = message.offset() or 0, spans[place].end
                if message.error() is None and offset < end:
                    yield place, message
                # The last offset may be that of an end of a transaction, which is no message.
                if offset + (message.error() is None) >= end:
                    left.discard(place)
    finally:
        consumer.close()


def _raise_if_final(message: Message) -> None:
    """Errors that pass are waited for; one of no partition has no place."""
    error = message.error()
    if error is not None and (error.fatal() or error.code() == KafkaError._AUTO_OFFSET_RESET):  # noqa: SLF001 - its name
        raise KafkaException(error)
