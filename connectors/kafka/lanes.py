"""Read lanes: fixed shares of the partitions of all input topics, as blocks of messages.

Lane k reads the partitions p with `p % lanes == k` of every topic, with one consumer. A key
stays in its lane as long as the partition count is a multiple of the lane count.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final

import structlog
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Message, TopicPartition

from connectors.clock import Clock
from connectors.crash import crash_point
from connectors.kafka.client import Outage, client_config, read_metadata
from connectors.kafka.columns import to_blocks
from connectors.kafka.scout import Scout
from connectors.lane_sink import lane_key
from connectors.metrics import LAG
from connectors.tell import tells
from schemas.blocks import RawBlock
from schemas.errors import ConfigError, PermanentError

_log = structlog.get_logger(__name__)

Place = tuple[str, int]

STATE_VERSION: Final = 1
_IDLE: Final = timedelta(milliseconds=10)
_LOOK_EVERY_S: Final = 0.5
_TABLE_REST_S: Final = 0.25
_RETENTION: Final = frozenset(
    (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE)  # noqa: SLF001 - its name
)


class LaneSource(FixedPartitionedSource[tuple[str, RawBlock], dict[str, Any]]):
    """A Bytewax source whose parts are lanes and whose items are `(lane, block)`.

    `own` are the lanes of this process; all of them when not given. `on_durable` is called
    whenever an epoch has become durable on all workers.
    `tables` (compacted) are read whole before the first message of `streams`, from their
    beginning at every start; both are then read on together. `stop` ends the stream when it
    says so: the lane stops reading and the epoch is closed.
    Delivery: each offset once from the resumed offset on.
    Errors: ConfigError for topics that do not fit; TransientError when the broker does not
    answer; PermanentError when an offset to resume from is gone.
    """

    def __init__(
        self,
        *,
        bootstrap_servers: str,
        lanes: int,
        own: Sequence[int] | None = None,
        tables: Sequence[str],
        streams: Sequence[str],
        clock: Clock,
        stop: Callable[[], bool],
        on_durable: Callable[[], None] = lambda: None,
        block_messages_max: int = 5_000,
        queue_kbytes_max: int = 16_384,
        quiet_s: float = 5.0,
        ahead_s_max: float = 300.0,
        discover_s: float = 30.0,
        connect_tries: int = 5,
        extra: Mapping[str, str] | None = None,
    ) -> None:
        self.bootstrap_servers = bootstrap_servers
        self.lanes = lanes
        self.own = range(lanes) if own is None else own
        self.tables = tuple(tables)
        self.streams = tuple(streams)
        self.clock = clock
        self.stop = stop
        self.on_durable = on_durable
        self.block_messages_max = block_messages_max
        self.quiet_s = quiet_s
        self.ahead_ms_max = int(ahead_s_max * 1_000)
        self.discover_s = discover_s
        self.connect_tries = connect_tries
        self.config = {
            **client_config(bootstrap_servers, extra or {}),
            "group.id": "airside",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "error",
            "isolation.level": "read_committed",
            "queued.max.messages.kbytes": queue_kbytes_max,
            "fetch.queue.backoff.ms": 2,
            "fetch.wait.max.ms": 50,
            "fetch.error.backoff.ms": 200,
        }

    def list_parts(self) -> list[str]:
        """The lanes of this process, in the form that keys have too."""
        return [lane_key(lane) for lane in self.own]

    def build_part(
        self, _step_id: str, for_part: str, resume_state: dict[str, Any] | None
    ) -> LanePartition:
        """Open one lane where it was left."""
        return LanePartition(self, int(for_part), resume_state)


class LanePartition(StatefulSourcePartition[tuple[str, RawBlock], dict[str, Any]]):
    """One lane's consumer. State: the next offset of every stream partition."""

    def __init__(self, source: LaneSource, lane: int, resume: dict[str, Any] | None) -> None:
        self._source = source
        self._lane = lane
        self._next: dict[Place, int] = _read_state(resume, lane)
        self._outage = Outage(f"lane {lane}")
        self._consumer = Consumer({**source.config, "error_cb": self._outage})
        self._caught_up: dict[Place, float] = {}
        self._newest: dict[Place, int] = {}
        self._paused: set[Place] = set()
        self._looked_s = 0.0
        self._idle = False
        self._ended_epoch = False
        self._loading = bool(source.tables)
        counts = self._count_partitions()
        self._places = self._places_of(counts)
        self._assign(place for place in self._places if place[0] in source.tables)
        self._goals = self._table_ends()
        self._moved_s = source.clock.steady_s()
        if not self._loading:
            self._start_streams()
        self._scout = Scout(self._consumer, source.discover_s)

    def _count_partitions(self) -> dict[str, int]:
        source = self._source
        metadata = read_metadata(
            self._consumer, bootstrap_servers=source.bootstrap_servers, tries=source.connect_tries
        )
        counts = {}
        for topic in (*source.tables, *source.streams):
            found = metadata.topics.get(topic)
            if found is None or found.error is not None:
                raise ConfigError(
                    do="read",
                    kind="topic",
                    name=topic,
                    where=f"at {source.bootstrap_servers}",
                    found="no such topic",
                    hint="run `airside topics apply`",
                )
            counts[topic] = len(found.partitions)
        check_partitions(counts, source.lanes)
        return counts

    def _places_of(self, counts: Mapping[str, int]) -> list[Place]:
        return [
            (topic, number)
            for topic, count in counts.items()
            for number in range(self._lane, count, self._source.lanes)
        ]

    def _assign(self, places: Any) -> None:
        parts = [
            TopicPartition(topic, number, self._next.get((topic, number), OFFSET_BEGINNING))
            for topic, number in places
        ]
        if parts:
            self._consumer.incremental_assign(parts)

    def _table_ends(self) -> dict[Place, int]:
        ends = {}
        for topic, number in self._places:
            if topic in self._source.tables:
                part = TopicPartition(topic, number)
                _, ends[topic, number] = self._consumer.get_watermark_offsets(part, timeout=10.0)
        return ends

    def _start_streams(self) -> None:
        self._loading = False
        self._check_resumed()
        self._assign(place for place in self._places if place[0] in self._source.streams)
        _log.info("lane_loaded", lane=self._lane, partitions=len(self._places))

    def _check_resumed(self) -> None:
        """Some brokers wait for ever at an offset that they never had; an empty topic shows it."""
        for place in self._places:
            if place[0] in self._source.streams and self._next.get(place, 0) > 0:
                _, end = self._consumer.get_watermark_offsets(TopicPartition(*place), timeout=10.0)
                if end == 0:
                    raise self._gone(place)

    @tells("read_lanes")
    def next_batch(self) -> list[tuple[str, RawBlock]]:
        """Everything that is there now, up to a block's bound; never waits.

        Errors: StopIteration when told to stop; PermanentError when retention overtook us.
        """
        source = self._source
        if self._ended_epoch:
            # The engine asks for more only once the epoch before is durable everywhere.
            self._ended_epoch = False
            source.on_durable()
        if source.stop():
            crash_point("draining")
            raise StopIteration
        messages = self._consumer.consume(source.block_messages_max, 0)
        if messages:
            crash_point("loading" if self._loading else "after_read")
        now_s = source.clock.steady_s()
        good = [message for message in messages if message.error() is None]
        blocks = self._take(good, now_s) if good else []
        if len(good) < len(messages):
            # After the messages: an end that was reported behind some of them is still one.
            self._note_errors(messages, now_s)
        self._idle = not messages
        if now_s - self._looked_s >= _LOOK_EVERY_S:
            self._looked_s = now_s
            self._look_around(now_s)
        return [(lane_key(self._lane), block) for block in blocks]

    def _note_errors(self, messages: list[Message], now_s: float) -> None:
        for message in messages:
            error = message.error()
            if error is not None:
                self._note(message, error, now_s)

    def _note(self, message: Message, error: KafkaError, now_s: float) -> None:
        place = (message.topic() or "", message.partition() or 0)
        if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - the library's name
            if (message.offset() or 0) >= self._next.get(place, 0):
                self._caught_up.setdefault(place, now_s)
            return
        if error.code() in _RETENTION:
            raise self._gone(place)
        if error.fatal() or error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            raise PermanentError(
                do="read on",
                kind="partition",
                name=f"{place[0]}/{place[1]}",
                found=f"Kafka error {error.name()}",
                hint="see the broker's log",
            )
        _log.warning("kafka_read_failed", lane=self._lane, error=error.name())

    def _gone(self, place: Place) -> PermanentError:
        return PermanentError(
            do="read on",
            kind="partition",
            name=f"{place[0]}/{place[1]}",
            where=f"at offset {self._next.get(place, 0)}",
            found="that offset is gone",
            expected="retention longer than any stop, and topics that are never made anew",
            hint="messages may be lost: raise retention.ms, then start from an empty data folder; "
            "the embedded broker forgets everything when it stops",
        )

    def _take(self, messages: list[Message], now_s: float) -> list[RawBlock]:
        self._outage.seen()
        self._moved_s = now_s
        quiet = self._quiet(now_s)
        blocks = to_blocks(
            messages,
            lane=self._lane,
            order=(*self._source.tables, *self._source.streams),
            received_ms=self._source.clock.now_ms(),
            quiet=quiet,
            unread=any(place not in self._newest and place not in quiet for place in self._places),
        )
        for block in blocks:
            ends = dict(zip(block.partitions, block.offsets, strict=True))
            times = dict(zip(block.partitions, block.timestamps, strict=True))
            for number, offset in ends.items():
                place = (block.topic, number)
                self._next[place] = offset + 1
                self._newest[place] = times[number]
                self._caught_up.pop(place, None)
        return blocks

    def _quiet(self, now_s: float) -> tuple[Place, ...]:
        longest = self._source.quiet_s
        return tuple(
            place for place, since_s in self._caught_up.items() if now_s - since_s >= longest
        )

    def _look_around(self, now_s: float) -> None:
        if self._loading:
            self._end_loading(now_s)
        else:
            self._align()
        self._adopt()
        LAG.labels(str(self._lane)).set(self._lag())

    def _end_loading(self, now_s: float) -> None:
        """Go on to the streams once the tables are read to their ends and reading has rested."""
        rested = now_s - self._moved_s >= _TABLE_REST_S
        done = all(
            self._next.get(place, 0) >= end or (place in self._caught_up)
            for place, end in self._goals.items()
        )
        if done and rested:
            self._start_streams()

    def _align(self) -> None:
        """Hold partitions back that are far ahead of the slowest one that has more to read."""
        behind = [
            at
            for place, at in self._newest.items()
            if place[0] in self._source.streams and place not in self._caught_up
        ]
        limit = min(behind, default=0) + self._source.ahead_ms_max
        ahead = {
            place
            for place, at in self._newest.items()
            if behind and place[0] in self._source.streams and at > limit
        }
        self._set_paused(ahead)

    def _set_paused(self, ahead: set[Place]) -> None:
        stop, go = ahead - self._paused, self._paused - ahead
        if stop:
            self._consumer.pause([TopicPartition(*place) for place in stop])
        if go:
            self._consumer.resume([TopicPartition(*place) for place in go])
        self._paused = ahead

    def _adopt(self) -> None:
        counts = self._scout.take()
        if counts is None:
            return
        topics = (*self._source.tables, *self._source.streams)
        known = {topic: counts.get(topic, 0) for topic in topics}
        if not self._scout.settled(partial(check_partitions, known, self._source.lanes)):
            return
        new = [place for place in self._places_of(known) if place not in self._places]
        if new and not self._loading:
            _log.info("partitions_adopted", lane=self._lane, partitions=len(new))
            self._places += new
            self._assign(new)

    def _lag(self) -> int:
        lag = 0
        for place in self._places:
            _, end = self._consumer.get_watermark_offsets(TopicPartition(*place), cached=True)
            lag += max(end - self._next.get(place, 0), 0) if end > 0 else 0
        return lag

    def next_awake(self) -> datetime | None:
        """At once while there is more to read, else in a moment."""
        return datetime.now(UTC) + _IDLE if self._idle else None

    def snapshot(self) -> dict[str, Any]:
        """The next offsets of the streams; tables are read from their beginning again."""
        self._ended_epoch = True
        tables = self._source.tables
        offsets = {place: n for place, n in self._next.items() if place[0] not in tables}
        return {"version": STATE_VERSION, "next": offsets}

    def close(self) -> None:
        """Let the broker and the threads go."""
        self._scout.stop()
        self._consumer.close()


def _read_state(resume: dict[str, Any] | None, lane: int) -> dict[Place, int]:
    if resume is None:
        return {}
    if resume["version"] != STATE_VERSION:
        raise PermanentError(
            do="resume",
            kind="lane",
            name=str(lane),
            found=f"offsets of version {resume['version']}",
            expected=f"version {STATE_VERSION}",
            hint="run the release that wrote them",
        )
    return dict(resume["next"])


def check_partitions(counts: Mapping[str, int], lanes: int) -> None:
    """Make sure that each key has one lane: equal counts, a multiple of the lanes.

    Errors: ConfigError naming the counts.
    """
    if len(set(counts.values())) == 1 and next(iter(counts.values())) % lanes == 0:
        return
    raise ConfigError(
        do="share",
        kind="topics",
        name=", ".join(counts),
        found="partition counts " + ", ".join(map(str, counts.values())),
        expected=f"one count for all, a multiple of {lanes} lanes",
        hint="create the topics with `airside topics apply`, or set AIRSIDE_LANES",
    )
