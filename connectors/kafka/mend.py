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
    is_visible,
    read_done,
    read_held,
    read_published,
)
from connectors.kafka.lane_state import Place
from connectors.kafka.spans import Span
from connectors.kafka.steps import PAUSE_S, Steps
from connectors.kafka.transaction_errors import mixed, not_restored
from connectors.kafka.watermark import Found, Mark, Watermark, newest, offsets_of
from schemas.blocks import CONTROL_HEADER, Origin
from schemas.errors import AirsideError

_log = structlog.get_logger(__name__)

X = TypeVar("X")

_CLOCKS_MS_MAX: Final = 600_000
"""How far clocks of machines that ran this lane may be apart."""

_DAY_MS: Final = 86_400_000
"""How long ago it was committed, where an earlier release did not say so."""


class Outputs(Protocol):
    """What a lane's sink knows beyond the lane."""

    shared: dict[str, Any]
    sources: tuple[str, ...]
    outputs: tuple[str, ...]
    lanes: int
    step_s_max: float

    def left_open(self, *, rest_s: float = REST_S) -> dict[Place, Span]:
        """Where a transaction is open."""


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
        # What the topics no longer have cannot be committed for them.
        here = {(part.topic, part.partition): 0 for part in places}
        mark = newest(found.mark, {place: saved[place] for place in here if place in saved})
        if not found.is_held:
            return mark
        mark = newest(mark, self._published(mark, found.at_ms))
        ending = Ending.ABORT if mark == found.mark else Ending.COMMIT
        self._steps.call("begin", lambda _: self._producer.begin_transaction())
        # All of them: what the transaction holds may be of an epoch that was not committed.
        self._send_offsets(watermark, newest(here, mark))
        self._end_as(ending)
        _log.warning("open_watermark_ended", lane=self._lane, ending=ending.name.lower())
        if self._steps.call("read", lambda left_s: watermark.read(places, left_s)).is_held:
            _log.error("watermark_stays_open", lane=self._lane)
        return mark

    def _send_offsets(self, watermark: Watermark, mark: Mark) -> None:
        offsets, group = offsets_of(mark), watermark.group()
        send = self._producer.send_offsets_to_transaction
        self._steps.call("commit", lambda left_s: send(offsets, group, left_s))

    def _published(self, mark: Mark, at_ms: int) -> Mark:
        sink, is_done = self._sink, self._is_committed(mark)
        since_ms = (at_ms or time.time_ns() // 1_000_000 - _DAY_MS) - _CLOCKS_MS_MAX
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

    def under_the_open_one(self) -> dict[Place, list[Message]]:
        """Committed records that an abort of the open transaction may take with it.

        Kafka forgot to end theirs, and the lane wrote its next epoch behind them.
        """
        sink, is_done = self._sink, self._is_committed(self._mark())
        spans = self._look(lambda _: sink.left_open(rest_s=0.0))
        return self._look(
            lambda wait_s: read_done(sink.shared, spans, is_done=is_done, wait_s_max=wait_s)
        )

    def restore(self, watermark: Watermark, found: Mapping[Place, list[Message]]) -> None:
        """Write again, where it was, what the abort took of them: a transaction of its own.

        The watermark goes with it, since the abort took that, too.
        """
        first = {place: messages[0].offset() or 0 for place, messages in found.items()}
        try:
            seen = self._look(
                lambda wait_s: is_visible(self._sink.shared, first, wait_s_max=wait_s)
            )
            lost = [m for place in found if seen[place] is False for m in found[place]]
            if not lost:
                return
            self._steps.call("begin", lambda _: self._producer.begin_transaction())
            self._write(
                [
                    {
                        "topic": message.topic(),
                        "value": message.value(),
                        "key": message.key(),
                        "partition": message.partition(),
                        "headers": message.headers(),
                        "timestamp": message.timestamp()[1],
                    }
                    for message in lost
                ]
            )
            self._send_offsets(watermark, self._mark())
            self._end_as(Ending.COMMIT)
        except (AirsideError, KafkaException):
            raise not_restored(self._lane, first) from None
        _log.warning("records_restored", lane=self._lane, records=len(lost))

    def _look(self, look: Callable[[float], X]) -> X:
        wait_s = max(min(self._sink.step_s_max, self._steps.deadline_s() - time.monotonic()), 1.0)
        try:
            return look(wait_s)
        except KafkaException as err:
            raise self._steps.late("look into", f"Kafka error {err.args[0].name()}") from None

    def _find_forgotten(self) -> tuple[dict[Place, Held], dict[Place, Span]]:
        sink, is_done = self._sink, self._is_committed(self._mark())
        spans = self._look(lambda _: sink.left_open())
        held = self._look(
            lambda wait_s: read_held(sink.shared, spans, is_done=is_done, wait_s_max=wait_s)
        )
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
        self._steps.call("begin", lambda _: self._producer.begin_transaction())
        self._write(
            [
                {
                    "topic": topic,
                    "key": CONTROL_HEADER.encode(),  # a compacted topic takes none without
                    "value": b"",
                    "headers": [(CONTROL_HEADER, ending.name.encode())],
                    "partition": partition,
                }
                for topic, partition in places
            ]
        )
        self._end_as(ending)
        count, by = len(places), ending.name.lower()
        _log.warning("open_transactions_ended", lane=self._lane, partitions=count, ending=by)

    def _write(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Write these, and wait until they are there."""
        failed: list[KafkaError] = []
        deadline_s = self._steps.deadline_s()
        for record in records:
            while True:
                try:
                    self._producer.produce(
                        **record,
                        on_delivery=lambda error, _: failed.append(error) if error else None,
                    )
                    break
                except BufferError:
                    self._producer.poll(PAUSE_S)
                    if time.monotonic() > deadline_s:
                        raise self._steps.late("write", "no room in its queue") from None
        if self._producer.flush(max(deadline_s - time.monotonic(), 1.0)):
            raise self._steps.late("write", "no answer")
        if failed:
            raise self._steps.refused("write", failed[0])

    def _end_as(self, ending: Ending) -> None:
        if ending is Ending.COMMIT:
            self._steps.call("commit", self._producer.commit_transaction)
        else:
            self._steps.call("abort", self._producer.abort_transaction)
