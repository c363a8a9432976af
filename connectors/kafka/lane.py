"""One lane: its consumer, what it gives again after a restart, and what is new."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import structlog
from bytewax.inputs import StatefulSourcePartition
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, TopicPartition

from connectors.crash import crash_point
from connectors.kafka.client import Outage
from connectors.kafka.ends import read_end
from connectors.kafka.epoch import LaneEpoch
from connectors.kafka.intake import Failure, Fetched, Messages, open_intake
from connectors.kafka.lag import Lag
from connectors.kafka.lane_state import (
    Place,
    dump_state,
    offset_gone,
    read_state,
    stuck_partition,
    unreadable_partition,
)
from connectors.kafka.loading import Loading
from connectors.kafka.order import OrderLog
from connectors.kafka.reach import Reach
from connectors.kafka.resumption import Resumption
from connectors.kafka.scout import Scout
from connectors.kafka.shares import Shares
from connectors.kafka.silence import SILENT_S, Silence
from connectors.lane_sink import lane_key
from connectors.metrics import LAG
from connectors.tell import tells
from schemas.blocks import RawBlock, runs_of

if TYPE_CHECKING:
    from connectors.kafka.lanes import LaneSource

_log = structlog.get_logger(__name__)

_REST: Final = timedelta(milliseconds=15)
_FEW: Final = 200
_LOOK_EVERY_S: Final = 0.5
_RETENTION: Final = frozenset(
    (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE)  # noqa: SLF001 - its name
)


class LanePartition(StatefulSourcePartition[tuple[str, RawBlock], dict[str, Any]]):
    """One lane's consumer. State: the next offset of every partition."""

    def __init__(self, source: LaneSource, lane: int, resume: dict[str, Any] | None) -> None:
        self._source = source
        self._lane = lane
        self._reach = Reach(read_state(resume, lane))
        self._outage = Outage(f"lane {lane}")
        config = {**source.config, "error_cb": self._outage}
        self._intake = open_intake(config, source.level)
        self._consumer = self._intake.consumer
        self._paused: set[Place] = set()
        self._silence = Silence()
        self._assigned: set[Place] = set()
        self._looked_s = 0.0
        self._rests = False
        self._epoch = LaneEpoch(source.bound, lane)
        self._turns = source.turns()
        self._loading = bool(source.tables)
        self._shares = Shares(source, lane)
        self._places = self._shares.places(self._shares.count(self._consumer))
        self._order: OrderLog | None = None
        if source.order_folder is not None:
            self._order = OrderLog(
                source.order_folder / f"{lane_key(lane)}.jsonl", self._reach.offsets
            )
            source.notes().append(self._order)
        self._resumption: Resumption | None = self._plan_resumption()
        self._backlog: list[Any] = []
        self._tables_read = Loading(self._table_ends(), source.clock.steady_s())
        self._lag = Lag(self._consumer, self._streams() if self._loading else ())
        if self._resumption is None:
            self._start_tables()
        self._scout = Scout(
            self._consumer,
            source.discover_s,
            places=lambda: self._silence.standing([*self._assigned], self._reach.position),
            make_other=lambda: Consumer(source.config),
        )

    def _plan_resumption(self) -> Resumption | None:
        """What has to be given again before anything new; assigns what that needs."""
        source = self._source
        tables = {place: self._reach.next_of(place) for place in self._tables()}
        resumption = Resumption(
            lane=self._lane,
            order=(*source.tables, *source.streams),
            table_ends=tables,
            pending=self._order.pending if self._order else deque(),
            now_s=source.clock.steady_s(),
        )
        if resumption.is_done:
            return None
        self._assign(tables, from_beginning=True)
        streams = [place for place in resumption.wanted if place not in tables]
        self._check_resumed([*tables, *streams])
        self._assign(streams)
        return resumption

    def _start_tables(self) -> None:
        """Read the tables on to their ends; then the streams."""
        self._assign(self._tables())
        if not self._loading:
            self._start_streams()

    def _tables(self) -> list[Place]:
        return [place for place in self._places if place[0] in self._source.tables]

    def _streams(self) -> list[Place]:
        return [place for place in self._places if place[0] in self._source.streams]

    def _assign(self, places: Iterable[Place], *, from_beginning: bool = False) -> None:
        first = {} if from_beginning else self._reach.offsets
        parts = [
            TopicPartition(*place, first.get(place, OFFSET_BEGINNING))
            for place in places
            if place not in self._assigned
        ]
        self._assigned.update((part.topic, part.partition) for part in parts)
        if parts:
            self._intake.assign(parts)

    def _table_ends(self) -> dict[Place, int]:
        return {place: read_end(self._consumer, place) for place in self._tables()}

    def _start_streams(self) -> None:
        self._loading = False
        streams = self._streams()
        self._check_resumed(streams)
        self._set_paused(set())
        self._assign(streams)
        _log.info(
            "lane_loaded",
            lane=self._lane,
            partitions=len(self._places),
            kafka_level=self._source.level.name,
        )

    def _check_resumed(self, places: Iterable[Place]) -> None:
        """Some brokers wait for ever at an offset that they never had; an empty topic shows it."""
        for place in places:
            if self._reach.next_of(place) > 0 and read_end(self._consumer, place) == 0:
                raise offset_gone(place, self._reach.next_of(place))

    @tells("read_lanes")
    def next_batch(self) -> list[tuple[str, RawBlock]]:
        """Everything that is there now, up to a block's bound; never waits.

        Errors: StopIteration when told to stop; PermanentError when retention overtook us.
        """
        self._begin_epoch(self._source.clock.steady_s())
        if self._source.stop():
            crash_point("draining")
            raise StopIteration
        if not self._turns.ask(self._lane):
            self._rests = False
            return []
        room = self._room()
        blocks = self._read(room) if room else self._wait()
        if blocks:
            self._turns.give()
        elif self._turns.rests:
            self._source.on_idle()
        now_s = self._source.clock.steady_s()
        if now_s - self._looked_s >= _LOOK_EVERY_S:
            self._looked_s = now_s
            self._look_around(now_s)
        return [(lane_key(self._lane), block) for block in blocks]

    def _begin_epoch(self, now_s: float) -> None:
        """Go on, if the epoch before is durable: the engine asks for more only then."""
        waited_s = self._epoch.begin(now_s)
        if waited_s is None:
            return
        # What was not looked for is neither known to be quiet nor missing.
        self._reach.wait(waited_s)
        if self._resumption is not None:
            self._resumption.wait(waited_s)
        if self._order:
            self._order.begin(self._reach.offsets)
        self._source.on_durable()

    def _room(self) -> int:
        """How many messages may be taken up now; 0 once the epoch has all that it may have."""
        limit = self._source.block_messages_max
        if self._resumption is not None and self._resumption.loads_tables:
            # Of what was in a table before, nothing is held until the epoch ends.
            return limit
        return min(limit, self._epoch.bound.left)

    def _wait(self) -> list[RawBlock]:
        """Read nothing: the engine ends the epoch by its time, and what we leave stays in Kafka."""
        now_s = self._source.clock.steady_s()
        self._epoch.wait(now_s)
        # That nothing comes does not mean now that tables have been read up.
        self._tables_read.note_moved(now_s)
        self._rests = True
        return []

    def _read(self, room: int) -> list[RawBlock]:
        """What is there, up to so many messages."""
        source = self._source
        # What is held is given first; else it would be carried along for as long as there is more.
        wanted = room if self._loading else room - len(self._backlog)
        fetched = self._intake.read(wanted) if wanted > 0 else Messages([], [])
        if len(fetched) or fetched.failures:
            crash_point("loading" if self._loading else "after_read")
        now_s = source.clock.steady_s()
        self._tables_read.note_look(now_s)
        if self._resumption is not None:
            blocks = self._give_again(self._resumption, fetched.messages(), now_s)
        else:
            blocks = self._give_new(fetched, room, now_s)
        for failure in fetched.failures:
            # After the messages: an end that was reported behind some of them is still one.
            self._note(failure, now_s)
        # After little, a moment for more: a block of few messages costs nearly as much as of many.
        given_again = bool(blocks) and not len(fetched)
        more = fetched.failures or self._backlog or given_again
        self._rests = len(fetched) < min(_FEW, room) and not more
        return blocks

    def _give_again(
        self, resumption: Resumption, messages: list[Any], now_s: float
    ) -> list[RawBlock]:
        """Table rows of before, or one block of the epoch in doubt; at its end, go on."""
        received_ms = self._source.clock.now_ms()
        blocks = resumption.take(messages, received_ms=received_ms, now_s=now_s)
        repeated = resumption.repeat(now_s)
        if repeated is not None:
            self._note_given(repeated, now_s)
            blocks.append(repeated)
        # The notes go on behind what is gone, too, and have to be found by these offsets.
        self._reach.pass_over(resumption.take_passed())
        if resumption.is_done:
            self._resumption = None
            self._backlog = [message for held in resumption.held.values() for message in held]
            streams = {place for place in self._assigned if place[0] in self._source.streams}
            self._set_paused(streams)
            self._tables_read.note_moved(now_s)
            _log.info("lane_resumed", lane=self._lane, held=len(self._backlog))
            self._start_tables()
        return blocks

    def _give_new(self, fetched: Fetched, limit: int, now_s: float) -> list[RawBlock]:
        """What was read, after what was held back; streams wait for the tables."""
        if self._backlog:
            waits = self._source.streams if self._loading else ()
            messages = self._backlog + fetched.messages()
            ready = [message for message in messages if message.topic() not in waits]
            self._backlog = [message for message in messages if message.topic() in waits]
            self._backlog += ready[limit:]
            fetched = Messages(ready[:limit], fetched.failures)
        if not len(fetched):
            return []
        blocks = self._take(fetched, now_s)
        for block in blocks:
            if self._order:
                self._order.note(block)
            self._note_given(block, now_s)
        return blocks

    def _note_given(self, block: RawBlock, now_s: float) -> None:
        self._epoch.bound.take(len(block.offsets))
        self._reach.note_block(block, now_s)

    def _note(self, failure: Failure, now_s: float) -> None:
        place, offset, error = failure
        if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - the library's name
            if self._resumption is not None:
                self._resumption.note_end(place, offset)
            self._reach.note_end(place, offset, now_s)
            return
        if error.code() in _RETENTION:
            raise offset_gone(place, self._reach.next_of(place))
        if error.fatal() or error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            raise unreadable_partition(place, error.name())
        _log.warning("kafka_read_failed", lane=self._lane, error=error.name())

    def _take(self, fetched: Fetched, now_s: float) -> list[RawBlock]:
        self._outage.seen()
        self._tables_read.note_moved(now_s)
        quiet = self._reach.quiet(now_s, self._source.quiet_s)
        if self._backlog:
            held = {(message.topic(), message.partition()) for message in self._backlog}
            quiet = tuple(place for place in quiet if place not in held)
        blocks = fetched.blocks(
            lane=self._lane,
            order=(*self._source.tables, *self._source.streams),
            received_ms=self._source.clock.now_ms(),
            quiet=quiet,
            unread=self._reach.is_unread(self._places, quiet),
        )
        # What is in hand is not quiet, in no block of this look.
        read = {(block.topic, part) for block in blocks for part, *_ in runs_of(block.partitions)}
        if not read.isdisjoint(quiet):
            for block in blocks:
                block.quiet = tuple(place for place in quiet if place not in read)
        return blocks

    def _look_around(self, now_s: float) -> None:
        if self._resumption is not None:
            self._hold_read_up(self._resumption)
        elif self._loading:
            self._end_loading(now_s)
        else:
            self._set_paused(self._reach.ahead(self._source.streams, self._source.ahead_ms_max))
        self._take_answer(now_s)
        LAG.labels(str(self._lane)).set(self._lag.count(self._places, self._reach.next_of))

    def _hold_read_up(self, resumption: Resumption) -> None:
        """Read no further where nothing more is needed to repeat."""
        wanted = resumption.wanted
        enough = {
            place
            for place, held in resumption.held.items()
            if held and (held[-1].offset() or 0) >= wanted.get(place, -1)
        }
        self._set_paused(enough | self._paused)

    def _end_loading(self, now_s: float) -> None:
        # What was held through a resumption has not been given yet; tables come last in it.
        if self._backlog and self._backlog[-1].topic() in self._source.tables:
            return

        def is_read(place: Place, end: int) -> bool:
            return self._reach.next_of(place) >= end or self._reach.is_caught_up(place)

        if self._tables_read.is_over(is_read, now_s):
            self._start_streams()

    def _set_paused(self, ahead: set[Place]) -> None:
        stop, go = ahead - self._paused, self._paused - ahead
        if stop:
            self._consumer.pause([TopicPartition(*place) for place in stop])
        if go:
            self._consumer.resume([TopicPartition(*place) for place in go])
        self._silence.drop(stop | go)
        self._paused = ahead

    def _take_answer(self, now_s: float) -> None:
        if self._resumption is not None or self._loading or not self._room():
            self._silence.forget()
        self._silence.note_look(now_s)
        answer = self._scout.take()
        if answer is None:
            return
        if answer.counts is not None:
            self._adopt(answer.counts)
        read = {place: end for place, end in answer.ends.items() if place not in self._paused}
        position, busy = self._reach.position, not self._rests
        place = self._silence.compare(read, position, now_s, busy=busy)
        if place is not None:
            raise stuck_partition(place, SILENT_S)

    def _adopt(self, counts: dict[str, int]) -> None:
        known = self._shares.known(counts)
        if not self._scout.settled(partial(self._shares.check, known)):
            return
        new = [place for place in self._shares.places(known) if place not in self._places]
        if new and not self._loading:
            _log.info("partitions_adopted", lane=self._lane, partitions=len(new))
            self._places += new
            self._assign(new)

    def next_awake(self) -> datetime | None:
        """At once while there is more to read, else in a moment."""
        return datetime.now(UTC) + _REST if self._rests else None

    @tells("read_lanes")
    def snapshot(self) -> dict[str, Any]:
        """The next offsets; tables are read from their beginning again, up to theirs."""
        self._epoch.end(self._source.clock.steady_s())
        if self._order:
            self._order.sync()
        return dump_state(self._reach.offsets)

    def close(self) -> None:
        """Let the broker and the threads go."""
        self._scout.stop()
        self._intake.close()
        if self._order:
            self._source.drop_notes(self._order)
            self._order.close()
