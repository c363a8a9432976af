"""Publish records with an idempotent producer; a delivery that failed stops the worker.

Delivery: at least once. Records of an epoch that did not end are published again after a
resume, with the same ids and origins.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

import structlog
from bytewax.outputs import StatefulSinkPartition
from confluent_kafka import KafkaError, Message

from connectors.kafka.client import Outage, client_config
from connectors.kafka.outlet import open_outlet
from connectors.lane_sink import LaneSink
from connectors.metrics import EPOCHS, PUBLISHED
from connectors.native.level import Wish, choose_level
from connectors.tell import tells
from schemas.blocks import OutRecord
from schemas.errors import PermanentError
from schemas.records import count_topics

_log = structlog.get_logger(__name__)

_POLL_S: Final = 0.05


class RecordSink(LaneSink[Sequence[OutRecord]]):
    """A Bytewax sink of `(lane, records)`, with one producer for each lane.

    Units: `delivery_s_max` bounds how long one record may wait for the broker; `linger_ms` how
    long one waits for others to share a batch.
    Errors: PermanentError for the first record that the broker did not take in time.
    """

    def __init__(
        self,
        *,
        bootstrap_servers: str,
        lanes: int,
        own: Sequence[int] | None = None,
        delivery_s_max: float = 120.0,
        queue_messages_max: int = 50_000,
        level: Wish = "pure",
        linger_ms: float = 5,
        extra: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(lanes=lanes, own=own)
        self.level = choose_level(level)
        self.delivery_s_max = delivery_s_max
        self.config = {
            **client_config(bootstrap_servers, extra or {}),
            "enable.idempotence": True,
            "acks": "all",
            "linger.ms": linger_ms,
            "compression.type": "lz4",
            "message.timeout.ms": int(delivery_s_max * 1_000),
            "queue.buffering.max.messages": queue_messages_max,
            "message.max.bytes": 8_388_608,
            # Only failures are reported: a callback for each success would cost more than sending.
            "delivery.report.only.error": True,
        }

    def open_lane(self, lane: int) -> RecordPartition:
        """Open one lane's producer."""
        return RecordPartition(self, lane)


class RecordPartition(StatefulSinkPartition[Sequence[OutRecord], None]):
    """One lane's producer. State: none; the broker's log is the state."""

    def __init__(self, sink: RecordSink, lane: int) -> None:
        self._lane = lane
        self._delivery_s_max = sink.delivery_s_max
        self._failed: KafkaError | None = None
        self._failed_topic = ""
        self._outage = Outage(f"producer {lane}")
        self._outlet = open_outlet(
            {**sink.config, "error_cb": self._outage, "on_delivery": self._on_delivery}, sink.level
        )
        self._producer = self._outlet.producer

    def _on_delivery(self, error: KafkaError | None, message: Message) -> None:
        if error is not None and self._failed is None:
            self._failed = error
            self._failed_topic = message.topic() or ""
            _log.error("delivery_failed", topic=self._failed_topic, error=error.name())

    @tells("publish_records")
    def write_batch(self, items: list[Sequence[OutRecord]]) -> None:
        """Hand records to the producer; waits, with a bound, while its queue is full."""
        counts: Counter[str] = Counter()
        for records in items:
            self._produce(records)
            counts.update(count_topics(records))
        self._producer.poll(0)
        self._raise_if_failed()
        for topic, count in counts.items():
            PUBLISHED.labels(topic).inc(count)

    def _produce(self, records: Sequence[OutRecord]) -> None:
        records = self._outlet.prepare(records)
        place, before = 0, -1
        deadline_s = 0.0
        while place < len(records):
            place, error = self._outlet.put(records, place)
            if error is None:
                return
            if error.code() != KafkaError._QUEUE_FULL:  # noqa: SLF001 - its name
                # Refused before it was sent, for one because it is too large.
                raise self._error(records[place].topic, f"Kafka error {error.name()}")
            if place > before:
                before, deadline_s = place, time.monotonic() + self._delivery_s_max
            self._producer.poll(_POLL_S)
            self._raise_if_failed()
            if time.monotonic() > deadline_s:
                raise self._error("queue", "no room in time")

    @tells("publish_records")
    def snapshot(self) -> None:
        """End an epoch: everything handed over is confirmed by the broker, or this raises."""
        left = self._producer.flush(self._delivery_s_max + 5.0)
        self._raise_if_failed()
        if left:
            raise self._error("queue", f"{left} records without an answer")
        self._outage.seen()
        EPOCHS.labels(str(self._lane)).inc()

    def close(self) -> None:
        """Give what is left a moment; the next start publishes again what is not confirmed."""
        self._producer.flush(5.0)

    def _raise_if_failed(self) -> None:
        found = self._outlet.failure()
        if found is not None and self._failed is None:
            self._failed_topic, self._failed = found
            _log.error("delivery_failed", topic=self._failed_topic, error=self._failed.name())
        if self._failed is not None:
            raise self._error(self._failed_topic, f"Kafka error {self._failed.name()}")

    def _error(self, name: str, found: str) -> PermanentError:
        return PermanentError(
            do="publish to",
            kind="topic",
            name=name,
            found=found,
            hint="nothing is lost: the epoch is repeated at the next start; see the broker's log",
        )
