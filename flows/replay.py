"""Publish a file of CloudEvents to Kafka, at the pace at which they happened or another."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec
from confluent_kafka import KafkaError, KafkaException, Message, Producer
from confluent_kafka.admin import AdminClient
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from connectors.clock import Clock, SystemClock
from connectors.kafka.client import Outage, client_config, read_metadata
from flows.lines import EX_DATAERR, Faults, LineFile
from flows.settings import Settings
from flows.stop import Stop
from flows.structured_event import BinaryEvent, mark_replayed, read_event
from schemas.errors import ConfigError, PermanentError
from schemas.topics_catalog import Topic, load_topics

LINE_BYTES_MAX: Final = 16_777_216
"""Twice the largest message, since base64 and escapes make text longer."""

GAP_S_MAX: Final = 86_400.0
INTERRUPTED: Final = 130
_NODE: Final = "replay"
_WAIT_S: Final = 0.1
_SHOW_EVERY: Final = 500


class Sender(Protocol):
    """Takes messages; a message is published once `finish` came back."""

    def send(self, topic: str, event: BinaryEvent) -> None:
        """Hand over one message."""

    def wait(self, seconds: float) -> None:
        """Let time pass, and serve the connection meanwhile."""

    def finish(self) -> None:
        """Wait, with a bound, until everything is published."""


class KafkaSender:
    """Publishes with an idempotent producer, in order.

    Delivery: each message once as long as the producer lives; a second replay sends all again,
    with the same ids.
    Errors: ConfigError for a missing topic, TransientError when no broker answers,
    PermanentError for a message that the broker did not take in time.
    """

    def __init__(
        self,
        topics: Mapping[str, Topic],
        *,
        bootstrap_servers: str,
        connect_tries: int,
        delivery_s_max: float,
        extra: Mapping[str, str],
    ) -> None:
        config = client_config(bootstrap_servers, extra)
        _check_topics(topics, config, bootstrap_servers, connect_tries)
        self._delivery_s_max = delivery_s_max
        self._failed: tuple[str, str] | None = None
        self._outage = Outage("replay")
        self._producer = Producer(
            {
                **config,
                "enable.idempotence": True,
                "acks": "all",
                "linger.ms": 5,
                "compression.type": "lz4",
                "message.timeout.ms": int(delivery_s_max * 1_000),
                "queue.buffering.max.messages": 50_000,
                "queue.buffering.max.kbytes": 65_536,
                "message.max.bytes": max(topic.max_message_bytes for topic in topics.values()),
                # Only failures: a callback for each success would cost more than sending.
                "delivery.report.only.error": True,
                "error_cb": self._outage,
                "on_delivery": self._on_delivery,
            }
        )

    def send(self, topic: str, event: BinaryEvent) -> None:
        """Hand over one message; waits, with a bound, while the queue is full."""
        headers: Any = event.headers
        for _ in range(math.ceil(self._delivery_s_max / _WAIT_S) + 1):
            try:
                self._producer.produce(topic, value=event.value, key=event.key, headers=headers)
            except BufferError:
                self.wait(_WAIT_S)
            except KafkaException as err:
                raise _undelivered(topic, err.args[0].name()) from None
            else:
                self.wait(0)
                return
        raise _undelivered(topic, "no room in the queue")

    def wait(self, seconds: float) -> None:
        """Serve the connection for a while."""
        self._producer.poll(seconds)
        self._raise_if_failed()

    def finish(self) -> None:
        """Wait until the broker has everything."""
        left = self._producer.flush(self._delivery_s_max + 5.0)
        self._raise_if_failed()
        if left:
            raise _undelivered("any", f"{left} messages without an answer")
        self._outage.seen()

    def _on_delivery(self, error: KafkaError | None, message: Message) -> None:
        if error is not None and self._failed is None:
            self._failed = (message.topic() or "", error.name())

    def _raise_if_failed(self) -> None:
        if self._failed is not None:
            raise _undelivered(*self._failed)


def _undelivered(topic: str, found: str) -> PermanentError:
    return PermanentError(
        do="publish to",
        kind="topic",
        name=topic,
        found=found,
        hint="see the broker's log, then replay the file again: ingest drops what it has already",
    )


def _check_topics(
    topics: Mapping[str, Topic], config: Mapping[str, Any], servers: str, tries: int
) -> None:
    admin = AdminClient(dict(config))
    there = read_metadata(admin, bootstrap_servers=servers, tries=tries).topics
    missing = [name for name in topics if name not in there or there[name].error is not None]
    if missing:
        raise ConfigError(
            do="publish to",
            kind="topic",
            name=missing[0],
            where=f"at {servers}",
            found="no such topic",
            hint="run `airside topics apply`",
        )


class Pace:
    """Says when each event is due.

    The steps between events are followed, not their times: an event with a wrong time moves
    the ones after it by `gap_s_max` at the most, and the next right one moves them back.
    Units: steady seconds; `speed` is event time by real time.
    """

    def __init__(self, *, speed: float, now_s: float, gap_s_max: float) -> None:
        self._speed = speed
        self._gap_s_max = gap_s_max
        self._due_s = now_s
        self._last_ms: int | None = None
        self.gaps_cut = 0

    def due_s(self, time_ms: int | None) -> float:
        """When to publish the next event; one without a time goes with the one before."""
        if time_ms is None:
            return self._due_s
        if self._last_ms is not None:
            step_s = (time_ms - self._last_ms) / 1_000 / self._speed
            bounded_s = max(-self._gap_s_max, min(step_s, self._gap_s_max))
            self.gaps_cut += bounded_s != step_s
            self._due_s += bounded_s
        self._last_ms = time_ms
        return self._due_s


class Replayed(msgspec.Struct):
    """What became of the lines that were reached: `lines == published + faults.total`.

    `gaps_cut` counts waits that were shortened; `stopped` tells that the file was not finished.
    """

    lines: int = 0
    published: int = 0
    by_topic: Counter[str] = msgspec.field(default_factory=Counter)
    faults: Faults = msgspec.field(default_factory=Faults)
    gaps_cut: int = 0
    stopped: bool = False


class Replay:
    """One pass over the lines of a file. State: the counts, and the pace."""

    def __init__(
        self,
        *,
        sender: Sender,
        topics: Mapping[str, Topic],
        speed: float | None,
        clock: Clock,
        stop: Callable[[], bool],
        gap_s_max: float = GAP_S_MAX,
        key: bytes | None = None,
    ) -> None:
        self.counts = Replayed()
        self._sender = sender
        self._topics = topics
        self._clock = clock
        self._stop = stop
        self._key = key
        self._pace = (
            Pace(speed=speed, now_s=clock.steady_s(), gap_s_max=gap_s_max) if speed else None
        )
        self._topic_of = lru_cache(maxsize=1_024)(self._find_topic)

    def run(self, lines: LineFile, progress: Callable[[int, int], None]) -> Replayed:
        """Publish line by line, until the end or until told to stop."""
        counts = self.counts
        for number, line in lines:
            ready = self._read(line)
            if self._stop() or not self._wait_for(ready):
                counts.stopped = True
                break
            counts.lines += 1
            if isinstance(ready, str):
                counts.faults.add(number, ready)
            else:
                topic, event = ready
                self._sender.send(topic, event)
                counts.by_topic[topic] += 1
            if self._pace or not number % _SHOW_EVERY:
                progress(lines.position, lines.size)
        self._sender.finish()
        counts.published = counts.by_topic.total()
        counts.gaps_cut = self._pace.gaps_cut if self._pace else 0
        return counts

    def _read(self, line: bytes | None) -> tuple[str, BinaryEvent] | str:
        if line is None:
            return f"longer than {LINE_BYTES_MAX} bytes"
        event = read_event(line)
        if isinstance(event, str):
            return event
        topic = self._topic_of(event.type)
        if topic is None:
            return "no topic takes its event type" if event.type else "no event type"
        event = mark_replayed(event, node=_NODE, now_ms=self._clock.now_ms(), key=self._key)
        if event.size > topic.max_message_bytes:
            return "larger than its topic takes"
        return topic.topic, event

    def _find_topic(self, event_type: str) -> Topic | None:
        return next((topic for topic in self._topics.values() if topic.accepts(event_type)), None)

    def _wait_for(self, ready: tuple[str, BinaryEvent] | str) -> bool:
        """Let the time come for an event; no longer when told to stop."""
        if self._pace is None or isinstance(ready, str):
            return True
        due_s = self._pace.due_s(ready[1].time_ms)
        while (left_s := due_s - self._clock.steady_s()) > 0:
            self._sender.wait(min(left_s, _WAIT_S))
            if self._stop():
                return False
        return True


def replay(
    path: Path,
    *,
    bootstrap_servers: str,
    speed: float | None = None,
    topics: Mapping[str, Topic] | None = None,
    progress: Callable[[int, int], None] = lambda _done, _size: None,
    extra: Mapping[str, str] | None = None,
    key: bytes | None = None,
    connect_tries: int = 5,
    delivery_s_max: float = 120.0,
    stop: Callable[[], bool] = lambda: False,
) -> Replayed:
    """Publish a file of events, one a line, each to the topic that takes its type.

    Units: `speed` is event time by real time, None for as fast as it goes; `progress` takes
    bytes of the file that were read, and how many there are.
    Shapes: `key` signs the tickets, for an ingest that asks for signatures.
    Delivery: in the order of the file for each key.
    Errors: ConfigError, TransientError and PermanentError as `KafkaSender` and `LineFile` say.
    """
    if speed is not None and not 0 < speed < math.inf:
        raise ConfigError(
            do="replay at", kind="speed", found=str(speed), expected="more than 0, such as 60"
        )
    with LineFile(path, line_bytes_max=LINE_BYTES_MAX) as lines:
        inputs = {n: topic for n, topic in (topics or load_topics()).items() if topic.event_types}
        sender = KafkaSender(
            inputs,
            bootstrap_servers=bootstrap_servers,
            connect_tries=connect_tries,
            delivery_s_max=delivery_s_max,
            extra=extra or {},
        )
        clock = SystemClock()
        run = Replay(sender=sender, topics=inputs, speed=speed, clock=clock, stop=stop, key=key)
        return run.run(lines, progress)


def run_replay(
    path: Path,
    *,
    settings: Settings,
    speed: float | None,
    console: Console | None = None,
    stop: Callable[[], bool] | None = None,
) -> int:
    """Replay for a person: with a progress bar and a summary.

    Shapes: 0 when every line was published, `EX_DATAERR` when some could not be, `INTERRUPTED`
    when it was stopped by a signal.
    """
    console = console or Console(highlight=False, soft_wrap=True)
    if stop is None:
        stop = Stop()
        stop.listen()
    kafka, key = settings.kafka, settings.ticket_key
    columns = (TextColumn("replaying"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("replay", total=None)
        done = replay(
            path,
            bootstrap_servers=kafka.bootstrap_servers,
            speed=speed,
            progress=lambda at, size: bar.update(task, completed=at, total=size),
            extra=kafka.extra,
            key=key.get_secret_value().encode() if key else None,
            connect_tries=kafka.connect_tries,
            delivery_s_max=kafka.delivery_s_max,
            stop=stop,
        )
    _show(done, console)
    if done.stopped:
        return INTERRUPTED
    return EX_DATAERR if done.faults.total else 0


def _show(done: Replayed, console: Console) -> None:
    ending = "; stopped before the end" if done.stopped else ""
    console.print(
        f"{done.lines} lines: {done.published} published, {done.faults.total} left out{ending}",
        markup=False,
    )
    for topic, count in sorted(done.by_topic.items()):
        console.print(f"  {count} to {topic}", markup=False)
    done.faults.show(console)
    if done.gaps_cut:
        console.print(f"  {done.gaps_cut} waits cut to {GAP_S_MAX:.0f} s", markup=False)
