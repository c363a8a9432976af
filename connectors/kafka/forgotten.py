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

from confluent_kafka import IsolationLevel, KafkaException, Message
from confluent_kafka.admin import AdminClient

from connectors.kafka.lane_state import Place
from connectors.kafka.spans import Span, newest_ends, oldest, places_of, read_spans
from schemas.blocks import ORIGIN_HEADER, Origin

_PAUSE_S: Final = 0.25
_REST_S_MAX: Final = 1.0
_LOOK_S: Final = 0.05
_ANSWER_S: Final = 5.0
_WINDOWS: Final = (1_000, 10_000, 100_000, 1_000_000)


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
    held = dict.fromkeys(spans, Held())
    for place, message in read_spans(config, spans, "read_uncommitted", wait_s_max=wait_s_max):
        origin = _origin_of(message)
        done = is_done(origin) if origin is not None else None
        if done is not None:
            was = held[place]
            leads = was.leads or message.offset() == spans[place].first
            held[place] = Held(was.done + done, was.undone + (not done), leads)
    return held


def read_done(
    config: Mapping[str, Any],
    spans: Mapping[Place, Span],
    *,
    is_done: Callable[[Origin], bool | None],
    wait_s_max: float = 30.0,
) -> dict[Place, list[Message]]:
    """The committed records of a lane that lie in an open transaction of its own, in their order.

    Errors: KafkaException when they cannot be read in time.
    """
    found: dict[Place, list[Message]] = {}
    for place, message in read_spans(config, spans, "read_uncommitted", wait_s_max=wait_s_max):
        origin = _origin_of(message)
        done = is_done(origin) if origin is not None else None
        if done and (place in found or message.offset() == spans[place].first):
            found.setdefault(place, []).append(message)
    return found


def read_published(
    config: Mapping[str, Any],
    topics: Sequence[str],
    *,
    is_done: Callable[[Origin], bool | None],
    wait_s_max: float = 30.0,
) -> dict[Place, int]:
    """How far the committed records of a lane reach that its watermark does not know of.

    A lane's records lie in a partition in the order of their epochs, so each is read backwards up
    to the first that the watermark knows, or for a million messages.
    Shapes: by input partition the offset behind the last origin; `is_done` as for `read_held`.
    Errors: KafkaException when it cannot be read in time.
    """
    ends_s = time.monotonic() + wait_s_max
    admin = AdminClient(dict(config))
    answer_s = min(_ANSWER_S, wait_s_max)
    places = places_of(admin, topics, answer_s)
    first = oldest(admin, places, answer_s)
    upto = newest_ends(admin, places, IsolationLevel.READ_COMMITTED, answer_s)
    reach: dict[Place, int] = {}
    for window in _WINDOWS:
        spans = {place: Span(max(first[place], end - window), end) for place, end in upto.items()}
        upto = {place: span.first for place, span in spans.items() if span.first > first[place]}
        left_s = ends_s - time.monotonic()
        for place, message in read_spans(config, spans, "read_committed", wait_s_max=left_s):
            origin = _origin_of(message)
            done = is_done(origin) if origin is not None else None
            if done:
                upto.pop(place, None)
            elif done is not None and origin is not None:
                source = (origin.topic, origin.partition)
                reach[source] = max(reach.get(source, 0), origin.offset + 1)
    return reach


def _origin_of(message: Message) -> Origin | None:
    headers = cast("Iterable[tuple[str, bytes | None]]", message.headers() or ())
    return Origin.of(next((told for name, told in headers if name == ORIGIN_HEADER), None))


def _look(admin: AdminClient, topics: Sequence[str], answer_s: float) -> dict[Place, Span]:
    places = places_of(admin, topics, answer_s)
    rested_s = time.monotonic() + _REST_S_MAX
    while True:
        # In this order: what is committed between the two looks is not open.
        newest = newest_ends(admin, places, IsolationLevel.READ_UNCOMMITTED, answer_s)
        stable = newest_ends(admin, places, IsolationLevel.READ_COMMITTED, answer_s)
        found = {
            place: Span(stable[place], newest[place])
            for place in places
            if stable[place] < newest[place]
        }
        if not found or time.monotonic() > rested_s:
            return found
        time.sleep(_LOOK_S)
