"""End what Kafka forgot to end of one lane, the way it was meant.

See `connectors.kafka.forgotten` for what it forgets, and when.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol, TypeVar

import structlog
from confluent_kafka import KafkaError, KafkaException, Message, Producer, TopicPartition

from connectors.kafka.forgotten import (
    REST_S,
    Ending,
    Held,
    read_done,
    read_held,
    read_published,
    read_visible,
)
from connectors.kafka.lane_state import Place
from connectors.kafka.spans import Span
from connectors.kafka.steps import PAUSE_S, Steps
from connectors.kafka.transaction_errors import AbortedError, mixed, not_restored
from connectors.kafka.watermark import Found, Mark, Watermark, newest, offsets_of
from connectors.tell import describe
from schemas.blocks import CONTROL_HEADER, Origin
from schemas.errors import AirsideError

_log = structlog.get_logger(__name__)

X = TypeVar("X")

_CLOCKS_MS_MAX: Final = 60_000
"""How far clocks of machines that ran this lane may be apart."""

_TRIES: Final = 4


class Outputs(Protocol):
    """What a lane's sink knows beyond the lane."""

    shared: dict[str, Any]
    sources: tuple[str, ...]
    outputs: tuple[str, ...]
    lanes: int
    step_s_max: float

    def left_open(self, *, rest_s: float = REST_S, wait_s: float) -> dict[Place, Span]:
        """Where a transaction is open."""

    def look_again(self) -> None:
        """Know no more that nothing is open."""


class Mender:
    """Ends transactions of one lane that stayed open; its producer has fenced all before it.

    Only `abort` is for a producer with an open transaction. `mark` tells the lane's watermark.
    Errors: of all methods as of the sink; PermanentError when nobody but a person can end it.
    """

    def __init__(
        self, sink: Outputs, lane: int, steps: Steps, producer: Producer, mark: Callable[[], Mark]
    ) -> None:
        self._sink = sink
        self._lane = lane
        self._steps = steps
        self._producer = producer
        self._mark = mark
        self._here: Mark = {}

    def settle(
        self, watermark: Watermark, found: Found, saved: Mark, places: Sequence[TopicPartition]
    ) -> Mark:
        """The lane's watermark: the furthest that Kafka, the saved copy or the outputs tell.

        Where a transaction holds the group's offsets, it is ended: by a commit when it is known to
        have been committed, else by an abort.
        """
        self._here = {(part.topic, part.partition): 0 for part in places}
        mark = newest(found.mark, saved)
        if not found.is_held:
            return mark
        mark = newest(mark, self._published(mark, found.at_ms))
        ending = Ending.ABORT if self.known(mark) == found.mark else Ending.COMMIT
        self._steps.call("begin", lambda _: self._producer.begin_transaction())
        # All of them: what the transaction holds may be of an epoch that was not committed.
        self._send_offsets(watermark, newest(self._here, self.known(mark)))
        self._end_as(ending)
        _log.warning("open_watermark_ended", lane=self._lane, ending=ending.name.lower())
        if self._steps.call("read", lambda left_s: watermark.read(places, left_s)).is_held:
            _log.error("watermark_stays_open", lane=self._lane)
        return mark

    def known(self, mark: Mark) -> Mark:
        """That part of it which is of topics that are there: Kafka takes no other."""
        return {place: offset for place, offset in mark.items() if place in self._here}

    def _send_offsets(self, watermark: Watermark, mark: Mark) -> None:
        offsets, group = offsets_of(mark), watermark.group()
        send = self._producer.send_offsets_to_transaction
        self._steps.call("commit", lambda left_s: send(offsets, group, left_s))

    def _published(self, mark: Mark, at_ms: int) -> Mark:
        sink, is_done = self._sink, self._is_committed(mark)
        # An earlier release did not say when: then all that is there may have to be looked at.
        since_ms = max(min(at_ms, time.time_ns() // 1_000_000) - _CLOCKS_MS_MAX, 0)
        return self._look(
            lambda wait_s: read_published(
                sink.shared, sink.outputs, since_ms=since_ms, is_done=is_done, wait_s_max=wait_s
            )
        )

    def end_forgotten(self) -> None:
        """End what stayed open in output partitions.

        A record there, and all is ended with it. Others' transactions are not touched.
        """
        held, spans = self._find_forgotten()
        endings = {place: found.ending() for place, found in held.items()}
        for place, ending in endings.items():
            if ending is Ending.UNKNOWN:
                raise mixed(place)
        for ending in (Ending.COMMIT, Ending.ABORT):
            places = [place for place, wanted in endings.items() if wanted is ending]
            if places:
                self._end(places, ending)
        if any(found.leads for found in held.values()):
            self._tell_what_stays({place: spans[place] for place in held if held[place].leads})

    def abort(self, watermark: Watermark) -> None:
        """Abort what is open, and write again what that took of the epoch before.

        Committed records whose end Kafka forgot, and behind which the lane wrote its next epoch,
        are taken by the abort: they come back where they were, in a transaction of their own.
        """
        found = self._under_the_open_one()
        if not found:
            self._steps.call("abort", self._producer.abort_transaction)
            return
        try:
            self._steps.call("abort", self._producer.abort_transaction)
            # These are lost if it is not done, so it has its own time.
            own_s = time.monotonic() + self._steps.step_s_max
            self._steps.ends_s = max(self._steps.ends_s, own_s)
            self._restore(watermark, found)
        except (AirsideError, KafkaException) as err:
            _log.error("restoring_failed", lane=self._lane, error=describe(err))
            raise not_restored(self._lane, _heads(found)) from None
        self._sink.look_again()
        self.end_forgotten()

    def _under_the_open_one(self) -> dict[Place, list[Message]]:
        sink, is_done = self._sink, self._is_committed(self._mark())
        sink.look_again()
        spans = self._look(lambda wait_s: sink.left_open(rest_s=0.0, wait_s=wait_s))
        return self._look(
            lambda wait_s: read_done(sink.shared, spans, is_done=is_done, wait_s_max=wait_s)
        )

    def _restore(self, watermark: Watermark, found: Mapping[Place, list[Message]]) -> None:
        """The watermark goes with it, since the abort took what Kafka forgot of that, too."""
        for left in reversed(range(_TRIES)):
            try:
                self._steps.call("begin", lambda _: self._producer.begin_transaction())
                # Kafka takes these only when the abort is over, in all partitions.
                self._send_offsets(watermark, newest(self._here, self.known(self._mark())))
                lost = self._taken(found)
                self._hand_over([_again(message) for message in lost])
                self._end_as(Ending.COMMIT)
            except AbortedError:
                if not left:
                    raise
                self._steps.call("abort", self._producer.abort_transaction)
            else:
                if lost:
                    _log.warning("records_restored", lane=self._lane, records=len(lost))
                return

    def _taken(self, found: Mapping[Place, list[Message]]) -> list[Message]:
        seen = self._look(
            lambda wait_s: read_visible(self._sink.shared, _heads(found), wait_s_max=wait_s)
        )
        return [message for place in found if seen[place] is False for message in found[place]]

    def _look(self, look: Callable[[float], X]) -> X:
        wait_s = max(min(self._sink.step_s_max, self._steps.deadline_s() - time.monotonic()), 1.0)
        try:
            return look(wait_s)
        except KafkaException as err:
            raise self._steps.late("look into", f"Kafka error {err.args[0].name()}") from None

    def _find_forgotten(self) -> tuple[dict[Place, Held], dict[Place, Span]]:
        sink, is_done = self._sink, self._is_committed(self._mark())
        spans = self._look(lambda wait_s: sink.left_open(wait_s=wait_s))
        held = self._look(
            lambda wait_s: read_held(sink.shared, spans, is_done=is_done, wait_s_max=wait_s)
        )
        return held, spans

    def _tell_what_stays(self, ended: Mapping[Place, Span]) -> None:
        """Say where it did not help: another producer id wrote what is open there."""
        try:
            left = self._sink.left_open(wait_s=self._sink.step_s_max)
        except KafkaException:
            return  # it was not asked for the flow's sake
        for place, span in ended.items():
            if place in left and left[place].first == span.first:
                _log.error("transaction_stays_open", topic=place[0], partition=place[1])

    def _is_committed(self, mark: Mark) -> Callable[[Origin], bool | None]:
        """Whether an output of this lane was committed; None for what is another lane's."""
        sources, lanes, lane = self._sink.sources, self._sink.lanes, self._lane

        def is_committed(origin: Origin) -> bool | None:
            if origin.topic not in sources or origin.partition % lanes != lane:
                return None
            return origin.offset < mark.get((origin.topic, origin.partition), 0)

        return is_committed

    def _end(self, places: Sequence[Place], ending: Ending) -> None:
        """End what is open in these partitions, by a transaction with one more record in each."""
        self._steps.call("begin", lambda _: self._producer.begin_transaction())
        failed: list[KafkaError] = []

        def note(error: KafkaError | None, _: Message) -> None:
            if error is not None:
                failed.append(error)

        self._hand_over(
            [
                {
                    "topic": topic,
                    "key": CONTROL_HEADER.encode(),  # a compacted topic takes none without
                    "value": b"",
                    "headers": [(CONTROL_HEADER, ending.name.encode())],
                    "partition": partition,
                    "on_delivery": note,
                }
                for topic, partition in places
            ]
        )
        self._await(failed)
        self._end_as(ending)
        count, by = len(places), ending.name.lower()
        _log.warning("open_transactions_ended", lane=self._lane, partitions=count, ending=by)

    def _hand_over(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Give these to the client; how that ended tells the commit that follows."""
        deadline_s = self._steps.deadline_s()
        for record in records:
            while True:
                try:
                    self._producer.produce(**record)
                    break
                except BufferError:
                    self._producer.poll(PAUSE_S)
                    if time.monotonic() > deadline_s:
                        raise self._steps.late("write", "no room in its queue") from None
                except KafkaException as err:
                    error = err.args[0]
                    if error.code() == KafkaError._STATE:  # noqa: SLF001 - its name
                        return  # the transaction has failed already
                    raise self._steps.refused("write", error) from None

    def _await(self, failed: Sequence[KafkaError]) -> None:
        """Wait until all is there: an abort would take what is not from the client's queue."""
        if self._producer.flush(max(self._steps.deadline_s() - time.monotonic(), 1.0)):
            raise self._steps.late("write", "no answer")
        if failed:
            raise self._steps.refused("write", failed[0])

    def _end_as(self, ending: Ending) -> None:
        if ending is Ending.COMMIT:
            self._steps.call("commit", self._producer.commit_transaction)
        else:
            self._steps.call("abort", self._producer.abort_transaction)


def _heads(found: Mapping[Place, list[Message]]) -> dict[Place, int]:
    return {place: messages[0].offset() or 0 for place, messages in found.items()}


def _again(message: Message) -> dict[str, Any]:
    """What the producer needs to write it again where it was."""
    return {
        "topic": message.topic(),
        "value": message.value(),
        "key": message.key(),
        "partition": message.partition(),
        "headers": message.headers(),
        "timestamp": message.timestamp()[1],
    }
