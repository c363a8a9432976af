"""Read lanes: fixed shares of the partitions of all input topics, as blocks of messages.

Lane k reads the partitions p with `p % lanes == k` of every topic, with one consumer. A key
stays in its lane as long as the partition count is a multiple of the lane count.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from bytewax.inputs import FixedPartitionedSource

from connectors.clock import Clock
from connectors.kafka.client import client_config
from connectors.kafka.epoch import EpochBound
from connectors.kafka.lane import LanePartition
from connectors.kafka.order import OrderLog
from connectors.kafka.turns import Turns
from connectors.lane_sink import lane_key
from connectors.native.level import Wish, choose_level
from connectors.tell import tells
from schemas.blocks import RawBlock

BLOCK_MIN: Final = 500
"""Messages that a lane's block may have, however many lanes there are."""


class LaneSource(FixedPartitionedSource[tuple[str, RawBlock], dict[str, Any]]):
    """A Bytewax source whose parts are lanes and whose items are `(lane, block)`.

    `own` are the lanes of this process; all of them when not given. `on_durable` is called
    whenever an epoch has become durable on all workers, `on_idle` when no lane here finds more,
    `on_joined` when the engine asks for the lanes, which it does once all its processes are there.
    `tables` (compacted) are read whole before the first message of `streams`, from their
    beginning at every start; both are then read on together. `shared` names those tables that
    every lane reads whole, all partitions of them. `stop` ends the stream when it
    says so: the lane stops reading and the epoch is closed.
    Units: `block_messages_max` bounds what all lanes here take up at once, where that leaves each
    at least `BLOCK_MIN`: all give a block before the first of them is done, and a message in hand
    is several kilobytes. `epoch_messages_max` bounds what they take up in one epoch, together, and
    is at least one for each; a lane takes up no more than an equal part of that at once, so that
    none takes all before the others were asked.
    `level` is who reads: Python alone, or the native library; what is given is the same.
    Delivery: each offset once from the resumed offset on. With `order_folder`, what was given
    after that offset before a crash is given again in the same blocks, and tables are until then
    what they were, so that a repeated epoch has the same outcome.
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
        shared: Sequence[str] = (),
        clock: Clock,
        stop: Callable[[], bool],
        order_folder: Path | None = None,
        on_durable: Callable[[], None] = lambda: None,
        on_idle: Callable[[], None] = lambda: None,
        on_joined: Callable[[], None] = lambda: None,
        block_messages_max: int = 5_000,
        epoch_messages_max: int = 250_000,
        queue_kbytes_max: int = 16_384,
        quiet_s: float = 5.0,
        ahead_s_max: float = 300.0,
        discover_s: float = 30.0,
        connect_tries: int = 5,
        level: Wish = "pure",
        extra: Mapping[str, str] | None = None,
    ) -> None:
        self.bootstrap_servers = bootstrap_servers
        self.lanes = lanes
        self.own = range(lanes) if own is None else own
        self.tables = tuple(tables)
        self.streams = tuple(streams)
        self.shared = frozenset(shared)
        self.clock = clock
        self.stop = stop
        self.order_folder = order_folder
        self.on_durable = on_durable
        self.on_idle = on_idle
        self._on_joined = on_joined
        count = max(len(self.own), 1)
        share = max(block_messages_max // count, BLOCK_MIN)
        self.block_messages_max = min(
            block_messages_max, share, max(epoch_messages_max // count, 1)
        )
        self.bound = EpochBound(max(epoch_messages_max, count))
        self._turns: dict[int, Turns] = {}
        self._notes: dict[int, list[OrderLog]] = {}
        self.quiet_s = quiet_s
        self.ahead_ms_max = int(ahead_s_max * 1_000)
        self.discover_s = discover_s
        self.connect_tries = connect_tries
        self.level = choose_level(level)
        self.config = {
            **client_config(bootstrap_servers, extra or {}),
            "group.id": "airside",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "error",
            "isolation.level": "read_committed",
            "queued.max.messages.kbytes": queue_kbytes_max,
            # By default 100,000 a partition: the bound in kilobytes does not count headers.
            "queued.min.messages": 2_000,
            "fetch.queue.backoff.ms": 2,
            "fetch.wait.max.ms": 50,
            "fetch.error.backoff.ms": 200,
        }

    def turns(self) -> Turns:
        """Those of the worker thread that asks."""
        return self._turns.setdefault(threading.get_ident(), Turns())

    def notes(self) -> list[OrderLog]:
        """The order logs of this worker thread's lanes."""
        return self._notes.setdefault(threading.get_ident(), [])

    def drop_notes(self, order: OrderLog) -> None:
        """Look after a lane's log no more. Safe to repeat."""
        for notes in self._notes.values():
            if order in notes:
                notes.remove(order)

    def sync_notes(self) -> None:
        """Make durable in which order this worker thread's lanes gave what they gave.

        For who shows anything of an epoch to the world before the epoch ends.
        """
        for order in self.notes():
            order.sync()

    def list_parts(self) -> list[str]:
        """The lanes of this process, in the form that keys have too."""
        self._on_joined()
        return [lane_key(lane) for lane in self.own]

    @tells("read_lanes")
    def build_part(
        self, _step_id: str, for_part: str, resume_state: dict[str, Any] | None
    ) -> LanePartition:
        """Open one lane where it was left."""
        return LanePartition(self, int(for_part), resume_state)
