"""Find what Kafka forgot to end, and say how a lane has to end it.

A broker that starts gives up the transactions whose time is over, and goes on with commits that it
had begun. Where it does not know a partition's leader yet, its coordinator takes the partition for
deleted, and calls the transaction ended without a word in the partition (Kafka 4.3.1, one node:
four of four times; "Couldn't find leader endpoint for partitions …, likely deleted already"). There
it stays open: readers of what is committed wait, and what ends the same producer's next transaction
there ends this one, too: a commit publishes what was aborted, and is published again; an abort
takes what was committed. So it is ended before anything else is written, the way it was meant.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum, auto
from typing import Any, Final, NamedTuple, cast

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
from schemas.blocks import ORIGIN_HEADER, Origin

CONTROL_HEADER: Final = "airside-control"
"""Of a record without a ticket that only ends a transaction; to be left out by who reads it."""

_PAUSE_S: Final = 0.25
_REST_S_MAX: Final = 1.0
_LOOK_S: Final = 0.05
_ANSWER_S: Final = 5.0
_MESSAGES: Final = 1_000


class Span(NamedTuple):
    """Where a partition's first open transaction begins, and where the partition ends."""

    first: int
    end: int


class Ending(Enum):
    """How what a lane left open in a partition has to be ended."""

    NONE = auto()
    COMMIT = auto()
    ABORT = auto()
    UNKNOWN = auto()


class Held(NamedTuple):
    """A lane's records from a partition's first open transaction on.

    Shapes: of how many the watermark says that they were committed, and of how many not; `leads`
    tells whether the first of all records there is the lane's, which is open then.
    """

    done: int = 0
    undone: int = 0
    leads: bool = False

    def ending(self) -> Ending:
        """What is right for all of them.

        Behind the open transaction of somebody else it is not known whether anything of the lane's
        is open. An abort harms nothing then, as long as no record of it was committed.

        >>> Held(undone=3).ending(), Held(done=3).ending(), Held(done=3, leads=True).ending()
        (<Ending.ABORT: 3>, <Ending.NONE: 1>, <Ending.COMMIT: 2>)
        """
        if self.done and self.undone and self.leads:
            return Ending.UNKNOWN
        if self.undone:
            return Ending.ABORT
        return Ending.COMMIT if self.done and self.leads else Ending.NONE


def find_open(
    config: Mapping[str, Any], topics: Sequence[str], *, wait_s_max: float = 30.0
) -> dict[Place, Span]:
    """The partitions of these topics in which a transaction stays open for longer than a moment.

    Shapes: topics that are missing are left out.
    Errors: KafkaException when the brokers do not say so in time; one question may last 5 s longer.
    """
    ends_s = time.monotonic() + wait_s_max
    while True:
        try:
            return _look(AdminClient(dict(config)), topics, min(_ANSWER_S, wait_s_max))
        except KafkaException:
            # A broker that just started may not lead the partition yet, or under another number.
            if time.monotonic() > ends_s:
                raise
            time.sleep(_PAUSE_S)


def read_held(
    config: Mapping[str, Any],
    spans: Mapping[Place, Span],
    *,
    is_done: Callable[[Origin], bool | None],
    wait_s_max: float = 30.0,
) -> dict[Place, Held]:
    """What a lane holds in partitions with open transactions.

    `is_done` tells whether the outputs of an input record were committed, and None for those of
    other lanes.
    Errors: KafkaException when it cannot be read in time.
    """
    if not spans:
        return {}
    settings = {
        **config,
        "group.id": "airside.forgotten",
        "enable.auto.commit": False,
        "auto.offset.reset": "error",
        "enable.partition.eof": True,
        "isolation.level": "read_uncommitted",
    }
    ends_s = time.monotonic() + wait_s_max
    consumer = Consumer(settings)
    try:
        consumer.assign([TopicPartition(*place, span.first) for place, span in spans.items()])
        held, left = dict.fromkeys(spans, Held()), set(spans)
        while left:
            if time.monotonic() > ends_s:
                raise KafkaException(KafkaError(KafkaError._TIMED_OUT))  # noqa: SLF001 - its name
            for message in consumer.consume(_MESSAGES, _LOOK_S):
                place = (message.topic() or "", message.partition() or 0)
                _raise_if_final(message)
                if place not in left:
                    continue
                offset, span = message.offset() or 0, spans[place]
                if message.error() is None and offset < span.end:
                    held[place] = _with(held[place], message, span, is_done)
                # The last offset may be that of an end of a transaction, which is no message.
                if offset + (message.error() is None) >= span.end:
                    left.discard(place)
        return held
    finally:
        consumer.close()


def _raise_if_final(message: Message) -> None:
    """Errors that pass are waited for; one of no partition has no place."""
    error = message.error()
    if error is not None and (error.fatal() or error.code() == KafkaError._AUTO_OFFSET_RESET):  # noqa: SLF001 - its name
        raise KafkaException(error)


def _with(
    held: Held, message: Message, span: Span, is_done: Callable[[Origin], bool | None]
) -> Held:
    headers = cast("Iterable[tuple[str, bytes | None]]", message.headers() or ())
    origin = Origin.of(next((told for name, told in headers if name == ORIGIN_HEADER), None))
    done = is_done(origin) if origin is not None else None
    if done is None:
        return held
    leads = held.leads or message.offset() == span.first
    return Held(held.done + done, held.undone + (not done), leads)


def _look(admin: AdminClient, topics: Sequence[str], answer_s: float) -> dict[Place, Span]:
    places = _places_of(admin, topics, answer_s)
    rested_s = time.monotonic() + _REST_S_MAX
    while True:
        # In this order: what is committed between the two looks is not open.
        newest = _ends(admin, places, IsolationLevel.READ_UNCOMMITTED, answer_s)
        stable = _ends(admin, places, IsolationLevel.READ_COMMITTED, answer_s)
        found = {
            place: Span(stable[place], newest[place])
            for place in places
            if stable[place] < newest[place]
        }
        if not found or time.monotonic() > rested_s:
            return found
        time.sleep(_LOOK_S)


def _places_of(admin: AdminClient, topics: Sequence[str], answer_s: float) -> list[Place]:
    known = admin.list_topics(timeout=answer_s).topics
    return [
        (topic, number)
        for topic in topics
        if topic in known and known[topic].error is None
        for number in known[topic].partitions
    ]


def _ends(
    admin: AdminClient, places: Sequence[Place], level: IsolationLevel, answer_s: float
) -> dict[Place, int]:
    if not places:
        return {}
    latest = OffsetSpec.latest()  # type: ignore[no-untyped-call] # it has no types
    asked = {TopicPartition(*place): latest for place in places}
    found = admin.list_offsets(asked, isolation_level=level, request_timeout=answer_s)
    return {(part.topic, part.partition): one.result().offset for part, one in found.items()}
