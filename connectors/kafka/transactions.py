"""Publish records exactly once: one transaction an epoch, and a watermark inside it.

The watermark is, for each input partition, the next offset whose outputs are not yet committed. It
is sent as group offsets in the same transaction as the records, so both become visible or neither.
After a crash the engine repeats the epoch; what lies below the watermark was committed before and
is dropped. Bytewax calls `snapshot` when the epoch's last item has arrived, which makes the
watermark complete: no output of an earlier offset can still come.
Source: DESIGN section 4.3; research/engine section 5.5.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import structlog
from bytewax.outputs import StatefulSinkPartition
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from connectors.crash import crash_point
from connectors.kafka.client import Outage, client_config
from connectors.kafka.forgotten import CONTROL_HEADER, Ending, Held, Span, find_open, read_held
from connectors.kafka.lane_state import Place
from connectors.kafka.outlet import open_outlet
from connectors.kafka.together import Together
from connectors.kafka.transaction_errors import AbortedError, aborted, late, mixed, refused
from connectors.lane_sink import LaneSink, lane_key
from connectors.metrics import EPOCHS, PUBLISHED
from connectors.native.level import Wish, choose_level
from connectors.tell import tells
from schemas.blocks import Origin, OutRecord
from schemas.errors import AirsideError, TransientError
from schemas.records import count_topics, extent_of

_log = structlog.get_logger(__name__)

_POLL_S: Final = 0.05
_STEP_S: Final = 5.0
_REPEATS_MAX: Final = 4
_EPOCH_STEPS: Final = 2
# A group's coordinator is chosen when the group is first asked for; until then reads say so.
_PASSING: Final = frozenset(
    (
        KafkaError.NOT_COORDINATOR,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    )
)


class TransactionalSink(LaneSink[Sequence[OutRecord]]):
    """A Bytewax sink of `(lane, records)`: every record once for read_committed consumers.

    `sources` are the input topics that origins name, `outputs` the topics that records may go to:
    what Kafka left open there is ended before the first record. `application` names the
    transactional ids and groups, `application.lane`, and must be unique to one flow of one
    installation.
    Delivery: exactly once on Apache Kafka. A second instance with the same ids fences the first.
    Units: `timeout_s` is the broker's bound on one transaction: longer than two epochs and the
    longest wait for other sinks. `step_s_max` bounds how long one step of it is tried, and twice
    that how long all steps that end an epoch are, repeats included.
    Errors: PermanentError when the broker refuses, or another instance took over; TransientError
    when it did not answer in time; ConfigError when it allows no transaction of `timeout_s`.
    """

    def __init__(
        self,
        *,
        bootstrap_servers: str,
        application: str,
        lanes: int,
        own: Sequence[int] | None = None,
        sources: Sequence[str],
        outputs: Sequence[str] = (),
        timeout_s: float = 900.0,
        step_s_max: float = 120.0,
        queue_messages_max: int = 50_000,
        level: Wish = "pure",
        extra: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(lanes=lanes, own=own)
        self._together: dict[int, Together] = {}
        self.level = choose_level(level)
        self.application = application
        self.sources = tuple(sources)
        self.outputs = tuple(outputs)
        self._open: dict[Place, Span] | None = None
        self.timeout_s = timeout_s
        self.step_s_max = step_s_max
        self.shared = client_config(bootstrap_servers, extra or {})
        self.config = {
            **self.shared,
            "acks": "all",
            "linger.ms": 5,
            "compression.type": "lz4",
            "transaction.timeout.ms": int(timeout_s * 1_000),
            # librdkafka 2.16 forgets a broker that went away but keeps it as group coordinator,
            # and then waits for it without end (its issue 5511, open): so let it keep the broker.
            "metadata.recovery.strategy": "none",
            "queue.buffering.max.messages": queue_messages_max,
            "message.max.bytes": 8_388_608,
            "delivery.report.only.error": True,
        }

    def left_open(self) -> dict[Place, Span]:
        """Where a transaction is open; none is where none was when last asked, or `look_again`."""
        if self._open is None or self._open:
            # As long as any step: brokers that are away are waited for here as elsewhere.
            self._open = find_open(self.shared, self.outputs, wait_s_max=self.step_s_max)
        return self._open

    def look_again(self) -> None:
        """Know no more that nothing is open."""
        self._open = None

    def open_lane(self, lane: int) -> TransactionalPartition:
        """Fence whoever had this lane before, then read how far it got."""
        together = self._together.setdefault(threading.get_ident(), Together())
        return TransactionalPartition(self, lane, together)


class TransactionalPartition(StatefulSinkPartition[Sequence[OutRecord], None]):
    """One lane's transactions. State: none here; the watermark is in Kafka, with the records."""

    def __init__(self, sink: TransactionalSink, lane: int, together: Together) -> None:
        name = f"{sink.application}.{lane_key(lane)}"
        self._lane = lane
        self._timeout_s = sink.timeout_s
        self._step_s_max = sink.step_s_max
        self._ends_s = float("inf")
        self._outage = Outage(f"producer {lane}")
        self._outlet = open_outlet(
            {**sink.config, "transactional.id": name, "error_cb": self._outage}, sink.level
        )
        self._producer = self._outlet.producer
        self._reader = Consumer({**sink.shared, "group.id": name, "enable.auto.commit": False})
        # First fence, then read: after fencing nobody else can move the watermark.
        self._call("open", self._producer.init_transactions)
        self._mark = self._read_mark(sink)
        self._reach: dict[tuple[str, int], int] = {}
        self._taken: list[Sequence[OutRecord]] = []
        self._spoilt = False
        self._repeated = False
        self._sink = sink
        self._looks = bool(sink.outputs)
        self.is_open = False
        self._together = together
        together.add(lane, self)

    def _read_mark(self, sink: TransactionalSink) -> dict[tuple[str, int], int]:
        topics = self._call("read", lambda left_s: self._reader.list_topics(timeout=left_s)).topics
        places = [
            TopicPartition(topic, number)
            for topic in sink.sources
            if topic in topics
            for number in range(self._lane, len(topics[topic].partitions), sink.lanes)
        ]
        found = self._call("read", lambda left_s: self._reader.committed(places, timeout=left_s))
        for part in found:
            if part.error is not None:
                raise self._refused("read", part.error)
        return {(part.topic, part.partition): part.offset for part in found if part.offset >= 0}

    @tells("publish_records")
    def write_batch(self, items: list[Sequence[OutRecord]]) -> None:
        """Take records into the open transaction; those that were committed before are dropped."""
        self._end_forgotten()
        counts: Counter[str] = Counter()
        for records in items:
            new = self._new(records)
            if len(new):
                self._begin()
                self._taken.append(new)
                self._produce(new)
                counts.update(count_topics(new))
        self._producer.poll(0)
        for topic, count in counts.items():
            PUBLISHED.labels(topic).inc(count)

    def _new(self, records: Sequence[OutRecord]) -> Sequence[OutRecord]:
        """The records whose outputs were not committed before; notes how far they reach."""
        mark, reach = self._mark, self._reach
        extent = extent_of(records)
        for place, (_, last) in extent.items():
            if last >= mark.get(place, 0):
                reach[place] = max(reach.get(place, 0), last + 1)
        if all(first >= mark.get(place, 0) for place, (first, _) in extent.items()):
            return records
        return [
            record
            for record in records
            if record.origin.offset >= mark.get((record.origin.topic, record.origin.partition), 0)
        ]

    def _end_forgotten(self) -> None:
        """End what Kafka forgot to end of this lane, the way it was meant.

        At the start, and after an epoch in which the brokers were lost. A record there, and all is
        ended with it. Others' transactions are not touched. See `connectors.kafka.forgotten`.
        """
        if not self._looks:
            return
        self._looks = False
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

    def _find_forgotten(self) -> tuple[dict[Place, Held], dict[Place, Span]]:
        sink = self._sink
        try:
            spans = sink.left_open()
            wait_s = sink.step_s_max / 2
            held = read_held(sink.shared, spans, is_done=self._is_committed, wait_s_max=wait_s)
        except KafkaException as err:
            raise self._late("look into", f"Kafka error {err.args[0].name()}") from None
        return held, spans

    def _tell_what_stays(self, ended: dict[Place, Span]) -> None:
        """Say where it did not help: another producer id wrote what is open there."""
        try:
            left = self._sink.left_open()
        except KafkaException:
            return  # it was not asked for the flow's sake
        for place, span in ended.items():
            if place in left and left[place].first == span.first:
                _log.error("transaction_stays_open", topic=place[0], partition=place[1])

    def _is_committed(self, origin: Origin) -> bool | None:
        """Whether an output of this lane was committed; None for what is another lane's."""
        sink = self._sink
        if origin.topic not in sink.sources or origin.partition % sink.lanes != self._lane:
            return None
        return origin.offset < self._mark.get((origin.topic, origin.partition), 0)

    def _end(self, places: Sequence[Place], ending: Ending) -> None:
        """End what is open in these partitions, by a transaction with one more record in each."""
        failed: list[KafkaError] = []
        self._call("begin", lambda _: self._producer.begin_transaction())
        for topic, partition in places:
            self._producer.produce(
                topic,
                key=CONTROL_HEADER.encode(),  # a compacted topic takes none without
                value=b"",
                headers=[(CONTROL_HEADER, ending.name.encode())],
                partition=partition,
                on_delivery=lambda error, _: failed.append(error) if error else None,
            )
        if self._producer.flush(self._step_s_max):
            raise self._late("write", "no answer")
        if failed:
            raise self._refused("write", failed[0])
        if ending is Ending.COMMIT:
            self._call("commit", self._producer.commit_transaction)
        else:
            self._call("abort", self._producer.abort_transaction)
        count, by = len(places), ending.name.lower()
        _log.warning("open_transactions_ended", lane=self._lane, partitions=count, ending=by)

    def _notice_outage(self) -> None:
        """Kafka may have forgotten the end of an epoch, and told that all is well."""
        self._producer.poll(0)  # lets the client say that the brokers were lost
        if self._outage.is_on or self._repeated:
            self._repeated, self._looks = False, bool(self._sink.outputs)
            self._sink.look_again()

    def _begin(self) -> None:
        if not self.is_open:
            self._notice_outage()
            self._end_forgotten()
            self._call("begin", lambda _: self._producer.begin_transaction())
            self.is_open = True

    def _produce(self, records: Sequence[OutRecord]) -> None:
        records = self._outlet.prepare(records)
        place, before = 0, -1
        deadline_s = 0.0
        while not self._spoilt and place < len(records):
            place, error = self._outlet.put(records, place)
            if error is None:
                return
            if error.code() == KafkaError._STATE:  # noqa: SLF001 - its name
                # The transaction has failed already: it is aborted and repeated at its end.
                self._spoilt = True
                return
            if error.code() != KafkaError._QUEUE_FULL:  # noqa: SLF001 - its name
                raise self._refused("write", error)
            if place > before:
                before = place
                deadline_s = min(time.monotonic() + self._step_s_max, self._ends_s)
            self._producer.poll(_POLL_S)
            if time.monotonic() > deadline_s:
                raise self._late("write", "no room in its queue")

    @tells("publish_records")
    def snapshot(self) -> None:
        """End an epoch: its records and the watermark are committed together, or this raises.

        The lanes of a worker thread commit at the same time, when the first of them is asked to.
        """
        self._end_forgotten()
        self._together.end(self._lane)
        self._mark.update(self._reach)
        self._reach = {}
        self._notice_outage()
        self._outage.seen()
        EPOCHS.labels(str(self._lane)).inc()

    def end_epoch(self) -> None:
        """Commit what is open; raises when that cannot be done in time."""
        self._ends_s = time.monotonic() + _EPOCH_STEPS * self._step_s_max
        crash_point("before_sink_commit")
        for left in reversed(range(_REPEATS_MAX)):
            last = not left or time.monotonic() > self._ends_s
            if not self._spoilt and self._committed(may_repeat=not last):
                break
            if last:
                raise self._late("commit", "transactions that had to be aborted")
            self._repeat()
        self.is_open = False
        self._taken = []
        self._ends_s = float("inf")
        crash_point("after_sink_commit")

    def _committed(self, *, may_repeat: bool) -> bool:
        """Commit; False when Kafka says that this transaction has to be aborted."""
        offsets = [TopicPartition(*place, offset) for place, offset in self._reach.items()]
        group = self._reader.consumer_group_metadata()
        send = self._producer.send_offsets_to_transaction
        try:
            self._call("commit", lambda left_s: send(offsets, group, left_s))
            crash_point("between_offsets_and_commit")
            # A commit waits for all deliveries first; one that failed makes it fail.
            self._call("commit", self._producer.commit_transaction)
        except AbortedError:
            if may_repeat:
                return False
            raise
        return True

    def _repeat(self) -> None:
        """Abort, and write the epoch's records again: a broker that restarted may ask for it."""
        self._repeated = True
        _log.warning("transaction_repeated", lane=self._lane, records=sum(map(len, self._taken)))
        self._call("abort", self._producer.abort_transaction)
        self._call("begin", lambda _: self._producer.begin_transaction())
        self._spoilt = False
        for records in self._taken:
            self._produce(records)

    def close(self) -> None:
        """Give up an open transaction; its epoch is repeated at the next start."""
        self._together.leave(self._lane, _STEP_S)
        if self.is_open:
            try:
                self._producer.abort_transaction(_POLL_S * 100)
            except KafkaException as err:
                _log.warning("abort_failed", lane=self._lane, error=err.args[0].name())
        self._reader.close()

    def _call(self, what: str, call: Callable[[float], Any]) -> Any:
        """Call the client with the seconds to wait, and again where it says that this is safe."""
        deadline_s = min(time.monotonic() + self._step_s_max, self._ends_s)
        while True:
            try:
                return call(_STEP_S)
            except KafkaException as err:
                error = err.args[0]
                if error.txn_requires_abort() and what == "commit":
                    raise aborted(self._lane, error) from None
                if not (error.retriable() or error.code() in _PASSING or _is_silence(what, error)):
                    raise self._refused(what, error) from None
                if time.monotonic() > deadline_s:
                    raise self._late(what, f"Kafka error {error.name()}") from None
                time.sleep(_POLL_S)

    def _refused(self, what: str, error: KafkaError) -> AirsideError:
        return refused(what, self._lane, error, timeout_s=self._timeout_s)

    def _late(self, what: str, found: str) -> TransientError:
        return late(what, self._lane, found, step_s_max=self._step_s_max)


def _is_silence(what: str, error: KafkaError) -> bool:
    """Whether a read had no answer: a coordinator that is busy, or one that waits for an end."""
    return what == "read" and error.code() == KafkaError._TIMED_OUT  # noqa: SLF001 - its name
