"""End what Kafka forgot to end of one lane, the way it was meant.

See `connectors.kafka.forgotten` for what it forgets, and when.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import structlog
from confluent_kafka import KafkaError, KafkaException, Message, Producer, TopicPartition

from connectors.kafka.forgotten import (
    Ending,
    Held,
    read_done,
    read_held,
    read_published,
)
from connectors.kafka.lane_state import Place
from connectors.kafka.spans import Span
from connectors.kafka.steps import Steps
from connectors.kafka.transaction_errors import mixed
from connectors.kafka.watermark import Found, Mark, Watermark, newest, offsets_of
from schemas.blocks import CONTROL_HEADER, Origin

_log = structlog.get_logger(__name__)

X = TypeVar("X")


class Outputs(Protocol):
    """What a lane's sink knows beyond the lane."""

    shared: dict[str, Any]
    sources: tuple[str, ...]
    outputs: tuple[str, ...]
    lanes: int
    step_s_max: float

    def left_open(self) -> dict[Place, Span]:
        """Where a transaction is open."""

    def look_again(self) -> None:
        """Know no more that nothing is open."""


class Mender:
    """Ends transactions of one lane that stayed open; the producer is fenced, and has none open.

    `mark` tells the lane's watermark.
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

    def settle(
        self, watermark: Watermark, found: Found, saved: Mark, places: Sequence[TopicPartition]
    ) -> Mark:
        """The lane's watermark: the furthest that Kafka, the saved copy or the outputs tell.

        Where a transaction holds the group's offsets, it is ended: by a commit when it is known to
        have been committed, else by an abort.
        """
        mark = newest(found.mark, saved)
        if not found.is_held:
            return mark
        mark = newest(mark, self._published(mark))
        ending = Ending.ABORT if mark == found.mark else Ending.COMMIT
        # All of them: what the transaction holds may be of an epoch that was not committed.
        every = {(part.topic, part.partition): 0 for part in places}
        self._steps.call("begin", lambda _: self._producer.begin_transaction())
        offsets, group = offsets_of(newest(every, mark)), watermark.group()
        send = self._producer.send_offsets_to_transaction
        self._steps.call("commit", lambda left_s: send(offsets, group, left_s))
        self._end_as(ending)
        _log.warning("open_watermark_ended", lane=self._lane, ending=ending.name.lower())
        return mark

    def _published(self, mark: Mark) -> Mark:
        sink = self._sink
        is_done = self._is_committed(mark)
        wait_s = sink.step_s_max / 2
        try:
            return read_published(sink.shared, sink.outputs, is_done=is_done, wait_s_max=wait_s)
        except KafkaException as err:
            raise self._steps.late("look into", f"Kafka error {err.args[0].name()}") from None

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

    def under_the_open_one(self) -> dict[Place, list[Message]]:
        """Committed records that an abort of the open transaction may take with it.

        Kafka forgot to end theirs, and the lane wrote its next epoch behind them.
        """
        is_done = self._is_committed(self._mark())
        return self._look(
            lambda sink, wait_s: read_done(
                sink.shared, sink.left_open(), is_done=is_done, wait_s_max=wait_s
            )
        )

    def taken(self, found: Mapping[Place, list[Message]]) -> dict[Place, list[Message]]:
        """Those of them that are open no more, after the abort."""
        spans = self._look(lambda sink, _: sink.left_open()) if found else {}
        return {
            place: messages
            for place, messages in found.items()
            if place not in spans or spans[place].first != messages[0].offset()
        }

    def _look(self, look: Callable[[Outputs, float], X]) -> X:
        self._sink.look_again()
        try:
            return look(self._sink, self._sink.step_s_max / 2)
        except KafkaException as err:
            raise self._steps.late("look into", f"Kafka error {err.args[0].name()}") from None

    def _find_forgotten(self) -> tuple[dict[Place, Held], dict[Place, Span]]:
        sink = self._sink
        is_done = self._is_committed(self._mark())
        try:
            spans = sink.left_open()
            wait_s = sink.step_s_max / 2
            held = read_held(sink.shared, spans, is_done=is_done, wait_s_max=wait_s)
        except KafkaException as err:
            raise self._steps.late("look into", f"Kafka error {err.args[0].name()}") from None
        return held, spans

    def _tell_what_stays(self, ended: Mapping[Place, Span]) -> None:
        """Say where it did not help: another producer id wrote what is open there."""
        try:
            left = self._sink.left_open()
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
        failed: list[KafkaError] = []
        self._steps.call("begin", lambda _: self._producer.begin_transaction())
        for topic, partition in places:
            self._producer.produce(
                topic,
                key=CONTROL_HEADER.encode(),  # a compacted topic takes none without
                value=b"",
                headers=[(CONTROL_HEADER, ending.name.encode())],
                partition=partition,
                on_delivery=lambda error, _: failed.append(error) if error else None,
            )
        if self._producer.flush(self._sink.step_s_max):
            raise self._steps.late("write", "no answer")
        if failed:
            raise self._steps.refused("write", failed[0])
        self._end_as(ending)
        count, by = len(places), ending.name.lower()
        _log.warning("open_transactions_ended", lane=self._lane, partitions=count, ending=by)

    def _end_as(self, ending: Ending) -> None:
        if ending is Ending.COMMIT:
            self._steps.call("commit", self._producer.commit_transaction)
        else:
            self._steps.call("abort", self._producer.abort_transaction)
