"""How long messages take from the hand-over to Kafka until a consumer has the routed record."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self

import numpy as np
from confluent_kafka import OFFSET_END, Consumer, TopicPartition

from flows.simulate.events import Message
from flows.simulate.truth import Place, Truth
from schemas.blocks import ORIGIN_HEADER

ROUTED: Final = ("ntf.routed.open.v1", "ntf.routed.restricted.v1", "ntf.routed.pci.v1")
_BLOCK: Final = 2_000
_WAIT_S: Final = 0.02


class TimedTruth(Truth):
    """A truth that also keeps when Kafka confirmed each message. Units: steady seconds."""

    def __init__(self) -> None:
        super().__init__()
        self.confirmed_s: dict[Place, float] = {}

    def note(self, message: Message, *, partition: int, offset: int, recorded_ms: int) -> None:
        """Take in one message that Kafka confirmed."""
        self.confirmed_s[message.topic, partition, offset] = time.monotonic()
        super().note(message, partition=partition, offset=offset, recorded_ms=recorded_ms)


class ArrivalClock:
    """Reads topics from now on, in a thread, and notes when each origin arrived.

    State: one number for each message, for runs of bounded length.
    """

    def __init__(self, bootstrap_servers: str, read: Sequence[str] = ROUTED) -> None:
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap_servers,
                "group.id": "airside.latency",
                "enable.auto.commit": False,
                "auto.offset.reset": "error",
                "isolation.level": "read_committed",
                "fetch.wait.max.ms": 10,
            }
        )
        topics = self._consumer.list_topics(timeout=10.0).topics
        parts = [
            TopicPartition(topic, number, OFFSET_END)
            for topic in read
            for number in topics[topic].partitions
        ]
        self._consumer.assign(parts)
        self._arrived_s: dict[Place, float] = {}
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._read, name="arrival-clock", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._stopped.set()
        self._thread.join()
        self._consumer.close()

    def _read(self) -> None:
        while not self._stopped.is_set():
            messages = self._consumer.consume(_BLOCK, _WAIT_S)
            now_s = time.monotonic()
            for message in messages:
                if message.error() is None:
                    origin = dict(message.headers() or ()).get(ORIGIN_HEADER)
                    own = (message.topic() or "", message.partition() or 0, message.offset() or 0)
                    # What no gate has seen yet comes from where it lies.
                    place = place_of(origin) if isinstance(origin, bytes) else own
                    self._arrived_s.setdefault(place, now_s)

    def spans_ms(self, sent_s: dict[Place, float]) -> list[float]:
        """How long each message took that arrived, from these times on. Units: milliseconds."""
        return [
            max(at_s - sent_s[place], 0.0) * 1_000
            for place, at_s in self._arrived_s.copy().items()
            if place in sent_s
        ]

    def percentiles(self, confirmed_s: dict[Place, float]) -> dict[str, float]:
        """The latency of all messages that arrived.

        Units: milliseconds. Shapes: `p50`, `p99` and `p999`; 0 when none arrived.
        """
        spans = self.spans_ms(confirmed_s)
        if not spans:
            return {"p50": 0.0, "p99": 0.0, "p999": 0.0}
        found = np.percentile(spans, [50, 99, 99.9]).round(1).tolist()
        return dict(zip(("p50", "p99", "p999"), found, strict=True))


def place_of(origin: bytes) -> Place:
    """Read an origin header.

    >>> place_of(b"ntf.requests.v1/3/12/0")
    ('ntf.requests.v1', 3, 12)
    """
    topic, partition, offset, _ = origin.decode().rsplit("/", 3)
    return topic, int(partition), int(offset)
