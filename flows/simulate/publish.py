"""Publish a world through Kafka like any producer, and note where each message came to lie."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka import Message as Confirmed

from connectors.kafka.client import Outage, client_config
from flows.simulate.events import Message
from flows.simulate.truth import Truth
from flows.simulate.unplaced import Unplaced
from flows.simulate.world import World
from schemas.errors import PermanentError

IN_FLIGHT_MAX: Final = 10_000
"""Messages that wait for the broker at once."""

_BATCH_MAX: Final = 500
_TICK_S: Final = 0.01
_POLL_S: Final = 0.05
_DELIVERY_S: Final = 120.0


def simulate(
    world: World,
    *,
    bootstrap_servers: str,
    rate: float,
    truth: Truth,
    progress: Callable[[int], None] | None = None,
    stop: Callable[[], bool] | None = None,
    extra: Mapping[str, str] | None = None,
    between: Callable[[], None] | None = None,
) -> Truth:
    """Send a world: first the profiles, and when Kafka has all of them, the stream.

    `between` runs between the two: a caller whose dataflow already runs waits there until the
    profiles are decided, since nothing orders topics among each other. `stop` is asked after
    every batch and ends the sending early; the truth then holds what was sent.
    Units: `rate` in messages a second, 0 for as fast as it goes; `progress` is told how many were
    handed over so far.
    Delivery: each message once, in order within a partition; returns when all are confirmed.
    What was confirmed without its place, as a repeat, is noted last.
    Errors: PermanentError for the first message that the broker did not take, or that is not found.
    """
    sender = _Sender(bootstrap_servers, truth, extra or {})
    pace = _Pace(rate)
    told, asked = progress or _tell_nobody, stop or _never
    try:
        if sender.send(world.profiles(), pace=pace, progress=told, stop=asked):
            sender.flush()
            if between is not None:
                between()
                pace.restart(sender.sent)
            sender.send(world.stream(), pace=pace, progress=told, stop=asked)
    finally:
        sender.flush()
    sender.raise_if_failed()
    sender.place_the_rest()
    return truth


def _tell_nobody(_sent: int) -> None:
    pass


def _never() -> bool:
    return False


class _Pace:
    """How many messages are due by now. Units: messages a second; 0 for no pace."""

    def __init__(self, rate: float, steady_s: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._steady_s = steady_s
        self._start_s = steady_s()

    def restart(self, sent: int) -> None:
        """Let the clock stand still until now: no rush follows a pause."""
        if self._rate:
            self._start_s = self._steady_s() - sent / self._rate

    def due(self, sent: int) -> int:
        """How many more may go now, a batch at most."""
        if not self._rate:
            return _BATCH_MAX
        due = int((self._steady_s() - self._start_s) * self._rate) - sent
        return max(min(due, _BATCH_MAX), 0)


class _Sender:
    """One idempotent producer. State: how many were handed over, and how many came back."""

    def __init__(self, bootstrap_servers: str, truth: Truth, extra: Mapping[str, str]) -> None:
        self.sent = 0
        self._back = 0
        self._truth = truth
        self._failed: KafkaError | None = None
        self._failed_topic = ""
        self._unplaced = Unplaced()
        self._config = client_config(bootstrap_servers, extra)
        self._producer = Producer(
            {
                **self._config,
                "enable.idempotence": True,
                "acks": "all",
                "linger.ms": 5,
                "compression.type": "lz4",
                "message.timeout.ms": int(_DELIVERY_S * 1_000),
                "message.max.bytes": 8_388_608,
                "error_cb": Outage("simulator"),
            }
        )

    def send(
        self,
        messages: Iterable[Message],
        *,
        pace: _Pace,
        progress: Callable[[int], None],
        stop: Callable[[], bool],
    ) -> bool:
        """Hand messages over in small batches; False when told to stop before the end."""
        waiting = iter(messages)
        while not stop():
            count = pace.due(self.sent)
            for _ in range(count):
                message = next(waiting, None)
                if message is None:
                    progress(self.sent)
                    return True
                self._produce(message)
            self._settle(0.0 if count else _TICK_S)
            if count:
                progress(self.sent)
        return False

    def _produce(self, message: Message) -> None:
        headers: Any = message.headers
        deadline_s = time.monotonic() + _DELIVERY_S
        while True:
            try:
                self._producer.produce(
                    message.topic,
                    value=message.value,
                    key=message.key,
                    headers=headers,
                    timestamp=message.timestamp_ms,
                    on_delivery=partial(self._confirm, message),
                )
            except BufferError:
                self._producer.poll(_POLL_S)
                self.raise_if_failed()
                if time.monotonic() > deadline_s:
                    raise self._error("queue", "no room in time") from None
            except KafkaException as err:
                raise self._error(message.topic, f"Kafka error {err.args[0].name()}") from None
            else:
                self.sent += 1
                return

    def _confirm(self, message: Message, error: KafkaError | None, confirmed: Confirmed) -> None:
        self._back += 1
        partition, offset = confirmed.partition(), confirmed.offset()
        if error is not None or partition is None or partition < 0:
            self._fail(error, message)
            return
        try:
            is_placed = self._unplaced.is_placed(message, partition, offset)
        except ValueError:
            # A message without a place cannot be accounted for, confirmed or not.
            self._fail(None, message)
        else:
            if is_placed:
                self._note(message, partition, offset or 0)

    def _note(self, message: Message, partition: int, offset: int) -> None:
        # As it was sent: of a batch that the broker had already, when the connection broke
        # before it said so, the report gives the batch's newest time for each message.
        recorded_ms = message.timestamp_ms
        self._truth.note(message, partition=partition, offset=offset, recorded_ms=recorded_ms)

    def _fail(self, error: KafkaError | None, message: Message) -> None:
        if self._failed is None:
            self._failed = error or KafkaError(KafkaError.INVALID_RECORD)
            self._failed_topic = message.topic

    def place_the_rest(self) -> None:
        """Find what is there without a known place. Errors: PermanentError when one is not."""
        if not self._unplaced.left():
            return
        for message, partition, offset in self._unplaced.find(self._config):
            self._note(message, partition, offset)
        for message in self._unplaced.left():
            self._fail(None, message)
        self.raise_if_failed()

    def _settle(self, wait_s: float) -> None:
        """Serve reports, and wait while too many are out."""
        self._producer.poll(wait_s)
        deadline_s = time.monotonic() + _DELIVERY_S
        while self.sent - self._back > IN_FLIGHT_MAX and self._failed is None:
            self._producer.poll(_POLL_S)
            if time.monotonic() > deadline_s:
                raise self._error("queue", "no answer in time")
        self.raise_if_failed()

    def flush(self) -> None:
        """Wait, with a bound, until everything that was handed over is confirmed."""
        left = self._producer.flush(_DELIVERY_S + 5.0)
        if left and self._failed is None:
            raise self._error("queue", f"{left} messages without an answer")

    def raise_if_failed(self) -> None:
        """Raise what the broker did not take."""
        if self._failed is not None:
            raise self._error(self._failed_topic, f"Kafka error {self._failed.name()}")

    def _error(self, name: str, found: str) -> PermanentError:
        return PermanentError(
            do="publish to",
            kind="topic",
            name=name,
            found=found,
            hint="see the broker's log; what was sent before is not taken back",
        )
