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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import Enum, auto
from typing import Any, Final, NamedTuple, TypeVar, cast

from confluent_kafka import IsolationLevel, KafkaException, Message
from confluent_kafka.admin import AdminClient

from connectors.kafka.lane_state import Place
from connectors.kafka.spans import Span, first_since, newest_ends, places_of, read_spans
from connectors.kafka.watermark import newest
from schemas.blocks import ORIGIN_HEADER, Origin

X = TypeVar("X")

REST_S: Final = 1.0
"""What is open for longer than this is not just being ended."""

_PAUSE_S: Final = 0.25
_LOOK_S: Final = 0.05
_ANSWER_S: Final = 5.0


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
    config: Mapping[str, Any],
    topics: Sequence[str],
    *,
    rest_s: float = REST_S,
    wait_s_max: float = 30.0,
) -> dict[Place, Span]:
    """The partitions of these topics in which a transaction is open, and still is `rest_s` later.

    Shapes: topics that are missing are left out.
    Errors: KafkaException when the brokers do not say so in time; one question may last 5 s longer.
    """
    return _patiently(
        lambda admin, left_s: _look(admin, topics, rest_s, left_s), config, wait_s_max
    )


def _patiently(
    ask: Callable[[AdminClient, float], X], config: Mapping[str, Any], wait_s: float
) -> X:
    """A broker that just started may not lead a partition yet, or under another number."""
    ends_s = time.monotonic() + wait_s
    while True:
        try:
            return ask(AdminClient(dict(config)), min(_ANSWER_S, wait_s))
        except KafkaException:
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
    """The committed records of a lane under open transactions of its own, in their order.

    That a transaction is the lane's own shows its first record: only those are read whole.
    Errors: KafkaException when they cannot be read in time.
    """
    heads = {place: Span(span.first, span.first + 1) for place, span in spans.items()}
    own = {
        place: spans[place]
        for place, message in _read_loosely(config, heads, wait_s_max)
        if _is_done(message, is_done)
    }
    found: dict[Place, list[Message]] = {place: [] for place in own}
    for place, message in _read_loosely(config, own, wait_s_max):
        if _is_done(message, is_done):
            found[place].append(message)
    return found


def read_visible(
    config: Mapping[str, Any], places: Mapping[Place, int], *, wait_s_max: float = 30.0
) -> dict[Place, bool | None]:
    """Whether the records at these offsets were committed; None while their transaction is open.

    Errors: KafkaException when it cannot be read in time.
    """

    def ends(admin: AdminClient, left_s: float) -> dict[Place, int]:
        return newest_ends(admin, [*places], IsolationLevel.READ_COMMITTED, left_s)

    stable = _patiently(ends, config, wait_s_max) if places else {}
    known: dict[Place, bool | None] = {
        place: False if offset < stable[place] else None for place, offset in places.items()
    }
    spans = {
        place: Span(places[place], places[place] + 1) for place in known if known[place] is False
    }
    for place, _ in read_spans(config, spans, "read_committed", wait_s_max=wait_s_max):
        known[place] = True
    return known


def read_published(
    config: Mapping[str, Any],
    topics: Sequence[str],
    *,
    since_ms: int,
    is_done: Callable[[Origin], bool | None],
    wait_s_max: float = 30.0,
) -> dict[Place, int]:
    """How far the committed records of a lane reach that its watermark does not know of.

    Only what was written since the last commit that is known can be of another one. A lane's
    records lie in a partition in the order of their epochs: one that the watermark knows comes
    after all that do not count.
    Shapes: `topics` are written in transactions only; by input partition the offset behind the
    last origin; `is_done` as for `read_held`.
    Errors: KafkaException when it cannot be read in time.
    """

    def spans_of(admin: AdminClient, left_s: float) -> dict[Place, Span]:
        places = places_of(admin, topics, left_s)
        first = first_since(admin, places, since_ms, left_s)
        ends = newest_ends(admin, places, IsolationLevel.READ_COMMITTED, left_s)
        return {place: Span(first[place], ends[place]) for place in places if first[place] >= 0}

    spans = _patiently(spans_of, config, wait_s_max)
    reached: dict[Place, dict[Place, int]] = {place: {} for place in spans}
    for place, message in read_spans(config, spans, "read_committed", wait_s_max=wait_s_max):
        origin = _origin_of(message)
        done = is_done(origin) if origin is not None else None
        if done:
            reached[place].clear()
        elif done is not None and origin is not None:
            source = (origin.topic, origin.partition)
            reached[place][source] = max(reached[place].get(source, 0), origin.offset + 1)
    return newest(*reached.values())


def _read_loosely(
    config: Mapping[str, Any], spans: Mapping[Place, Span], wait_s_max: float
) -> Iterator[tuple[Place, Message]]:
    return read_spans(config, spans, "read_uncommitted", wait_s_max=wait_s_max)


def _is_done(message: Message, is_done: Callable[[Origin], bool | None]) -> bool:
    origin = _origin_of(message)
    return origin is not None and is_done(origin) is True


def _origin_of(message: Message) -> Origin | None:
    headers = cast("Iterable[tuple[str, bytes | None]]", message.headers() or ())
    return Origin.of(next((told for name, told in headers if name == ORIGIN_HEADER), None))


def _look(
    admin: AdminClient, topics: Sequence[str], rest_s: float, answer_s: float
) -> dict[Place, Span]:
    places = places_of(admin, topics, answer_s)
    rested_s = time.monotonic() + rest_s
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
