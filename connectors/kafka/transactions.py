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
from confluent_kafka import KafkaError, KafkaException

from connectors.crash import crash_point
from connectors.kafka.client import Outage, client_config
from connectors.kafka.forgotten import REST_S, find_open
from connectors.kafka.lane_state import Place
from connectors.kafka.mend import Mender
from connectors.kafka.outlet import open_outlet
from connectors.kafka.spans import Span
from connectors.kafka.steps import PAUSE_S, TRY_S, Steps
from connectors.kafka.together import Together
from connectors.kafka.transaction_errors import AbortedError
from connectors.kafka.watermark import Mark, Watermark, dump_mark, load_mark, newest, offsets_of
from connectors.lane_sink import LaneSink, lane_key
from connectors.metrics import EPOCHS, PUBLISHED
from connectors.native.level import Wish, choose_level
from connectors.tell import tells
from schemas.blocks import OutRecord
from schemas.errors import AirsideError
from schemas.records import count_topics, extent_of

_log = structlog.get_logger(__name__)

_REPEATS_MAX: Final = 4
_EPOCH_STEPS: Final = 2


class TransactionalSink(LaneSink[Sequence[OutRecord]]):
    """A Bytewax sink of `(lane, records)`: every record once for read_committed consumers.

    `sources` are the input topics that origins name, `outputs` the topics that records may go to:
    what Kafka left open there is ended before the first record. `application` names the
    transactional ids and groups, `application.lane`, and must be unique to one flow of one
    installation.
    Delivery: exactly once on Apache Kafka. A second instance with the same ids fences the first.
    Units: `timeout_s` is the broker's bound on one transaction: longer than two epochs and the
    longest wait for other sinks. `step_s_max` bounds how long one step of it is tried, and twice
    that how long all steps that end an epoch are, repeats included; restoring what an abort took
    of the epoch before has its own `step_s_max`. `meanwhile` is called while the commits of a
    worker thread's lanes are under way.
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
        meanwhile: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(lanes=lanes, own=own)
        self._meanwhile = meanwhile
        self._together: dict[int, Together] = {}
        self.level = choose_level(level)
        self.application = application
        self.sources = tuple(sources)
        self.outputs = tuple(outputs)
        self._open: dict[Place, Span] | None = None
        self._turn = 0
        self.timeout_s = timeout_s
        self.step_s_max = step_s_max
        self.shared = client_config(bootstrap_servers, extra or {})
        self.config = {
            **self.shared,
            "acks": "all",
            # Nobody sees a record before its epoch's commit, which has to wait for what lingers.
            "linger.ms": 20,
            "compression.type": "lz4",
            "transaction.timeout.ms": int(timeout_s * 1_000),
            # librdkafka 2.16 forgets a broker that went away but keeps it as group coordinator, and
            # then waits for it without end (its issue 5511, open). This takes one reason to forget
            # it away; another is left, see `Steps.stuck`.
            "metadata.recovery.strategy": "none",
            "queue.buffering.max.messages": queue_messages_max,
            "message.max.bytes": 8_388_608,
            "delivery.report.only.error": True,
        }

    def left_open(self, *, rest_s: float = REST_S, wait_s: float) -> dict[Place, Span]:
        """Where a transaction is open; none is where none was when last asked, or `look_again`."""
        found, turn = self._open, self._turn
        if found is None or found:
            found = find_open(self.shared, self.outputs, rest_s=rest_s, wait_s_max=wait_s)
            if turn == self._turn:  # lanes look in several threads
                self._open = found
        return found

    def look_again(self) -> None:
        """Know no more that nothing is open."""
        self._turn += 1
        self._open = None

    @tells("open_lane")
    def build_part(
        self, _step_id: str, for_part: str, resume_state: dict[str, Any] | None
    ) -> TransactionalPartition:
        """Open one lane's part, with what was saved of it."""
        return self.open_lane(int(for_part), resume_state)

    def open_lane(self, lane: int, saved: dict[str, Any] | None = None) -> TransactionalPartition:
        """Fence whoever had this lane before, then read how far it got."""
        together = self._together.setdefault(
            threading.get_ident(), Together(meanwhile=self._meanwhile)
        )
        return TransactionalPartition(self, lane, together, load_mark(saved, lane))


class TransactionalPartition(StatefulSinkPartition[Sequence[OutRecord], dict[str, Any]]):
    """One lane's transactions. State: a copy of the watermark that Kafka has with the records."""

    def __init__(self, sink: TransactionalSink, lane: int, together: Together, saved: Mark) -> None:
        name = f"{sink.application}.{lane_key(lane)}"
        self._lane = lane
        self._steps = Steps(lane, timeout_s=sink.timeout_s, step_s_max=sink.step_s_max)
        self._outage = Outage(f"producer {lane}")
        self._outlet = open_outlet(
            {**sink.config, "transactional.id": name, "error_cb": self._outage}, sink.level
        )
        self._producer = self._outlet.producer
        self._watermark = Watermark(sink.shared, name)
        self._mark: Mark = {}
        self._mender = Mender(sink, lane, self._steps, self._producer, lambda: self._mark)
        # First fence, then read: after fencing nobody else can move the watermark.
        self._steps.call("open", self._producer.init_transactions)
        self._mark = self._read_mark(sink, saved)
        self._reach: Mark = {}
        self._taken: list[Sequence[OutRecord]] = []
        self._spoilt = False
        self._repeated = False
        self._sink = sink
        self._looks = bool(sink.outputs)
        self.is_open = False
        self._together = together
        together.add(lane, self)

    def _read_mark(self, sink: TransactionalSink, saved: Mark) -> Mark:
        watermark, share = self._watermark, (sink.sources, self._lane, sink.lanes)
        call = self._steps.call
        places = call("read", lambda left_s: watermark.places(*share, left_s))
        found = call("read", lambda left_s: watermark.read(places, left_s))
        return self._mender.settle(watermark, found, saved, places)

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
        """At the start, and after an epoch in which the brokers were lost."""
        if self._looks:
            self._looks = False
            self._mender.end_forgotten()

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
            self._steps.call("begin", lambda _: self._producer.begin_transaction())
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
                raise self._steps.refused("write", error)
            if place > before:
                before = place
                deadline_s = self._steps.deadline_s()
            self._producer.poll(PAUSE_S)
            if time.monotonic() > deadline_s:
                raise self._steps.late("write", "no room in its queue")

    @tells("publish_records")
    def snapshot(self) -> dict[str, Any]:
        """End an epoch: its records and the watermark are committed together, or this raises.

        Gives the watermark: what the engine saves of it was committed.

        The lanes of a worker thread commit at the same time, when the first of them is asked to.
        """
        self._end_forgotten()
        self._together.end(self._lane)
        self._mark.update(self._reach)
        self._reach = {}
        self._notice_outage()
        self._outage.seen()
        EPOCHS.labels(str(self._lane)).inc()
        return dump_mark(self._mark)

    def end_epoch(self) -> None:
        """Commit what is open; raises when that cannot be done in time."""
        self._steps.ends_s = time.monotonic() + _EPOCH_STEPS * self._steps.step_s_max
        crash_point("before_sink_commit")
        for left in reversed(range(_REPEATS_MAX)):
            last = not left or time.monotonic() > self._steps.ends_s
            if not self._spoilt and self._committed(may_repeat=not last):
                break
            if last:
                raise self._steps.late("commit", "transactions that had to be aborted")
            self._repeat()
        self.is_open = False
        self._taken = []
        self._steps.ends_s = float("inf")
        crash_point("after_sink_commit")

    def stuck(self) -> AirsideError | None:
        """What to raise instead of waiting any longer for the end of the epoch."""
        return self._steps.stuck()

    def _committed(self, *, may_repeat: bool) -> bool:
        """Commit; False when Kafka says that this transaction has to be aborted."""
        # An abort may have taken what Kafka forgot to keep of the watermark before.
        before = self._mender.known(self._mark) if self._repeated else {}
        offsets, group = offsets_of(newest(before, self._reach)), self._watermark.group()
        send = self._producer.send_offsets_to_transaction
        self._producer.poll(0)  # lets the client say that the brokers were lost
        if self._outage.is_on:
            # The producer asks three times for a coordinator, and then waits without end.
            self._steps.call("read", lambda left_s: self._watermark.wake(offsets[:1], left_s))
        try:
            self._steps.call("commit", lambda left_s: send(offsets, group, left_s))
            crash_point("between_offsets_and_commit")
            # A commit waits for all deliveries first; one that failed makes it fail.
            self._steps.call("commit", self._producer.commit_transaction)
        except AbortedError:
            if may_repeat:
                return False
            raise
        return True

    def _repeat(self) -> None:
        """Abort, and write the epoch's records again: a broker that restarted may ask for it."""
        self._repeated = True
        _log.warning("transaction_repeated", lane=self._lane, records=sum(map(len, self._taken)))
        if self._sink.outputs:
            self._mender.abort(self._watermark)
        else:
            self._steps.call("abort", self._producer.abort_transaction)
        self._steps.call("begin", lambda _: self._producer.begin_transaction())
        self._spoilt = False
        for records in self._taken:
            self._produce(records)

    def close(self) -> None:
        """Give up an open transaction; its epoch is repeated at the next start."""
        self._together.leave(self._lane, TRY_S)
        if self.is_open and self.stuck() is None:
            try:
                self._producer.abort_transaction(TRY_S)
            except KafkaException as err:
                _log.warning("abort_failed", lane=self._lane, error=err.args[0].name())
        self._watermark.close()
