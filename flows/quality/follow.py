"""Follow accepted and refused messages into the quality of data: the follower of the flow."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import msgspec

from flows.quality.agree import Agreement
from flows.quality.cells import MINUTE_MS, Cells, Key
from flows.quality.clock import Clock
from flows.quality.close import ANOMALIES, Closing, about_key
from flows.quality.count import Counter
from flows.quality.detect import Limits
from flows.quality.edges import Edges, Undeclared
from flows.quality.tell import finding
from flows.steps.accept import PROFILE_TOPIC
from schemas.blocks import AcceptedBlock, Followed, Rows, rows_of
from schemas.errors import PermanentError
from schemas.quality import Quality

STATE_VERSION: Final = 1


class QualityRules(NamedTuple):
    """The bounds of one lane. Units: milliseconds; the others count."""

    lateness_ms: int
    grace_ms: int = 120_000
    idle_ms: int = 900_000
    producers_max: int = 64
    cells_max: int = 100_000
    remembered_max: int = 200_000
    edges_max: int = 1_000
    limits: Limits = Limits()


class QualityFollower:
    """One lane's quality of data.

    State: everything, as versioned bytes. Time is event time. A refused message counts in the
    minute that its lane had reached, as its own time may be wrong or unknown.
    Delivery: after `load` the same blocks lead to the same rows and records.
    """

    def __init__(self, quality: Quality, rules: QualityRules) -> None:
        self._rules = rules
        self._cells = Cells(quality, producers_max=rules.producers_max, cells_max=rules.cells_max)
        self._agreement = Agreement(self._cells, remembered_max=rules.remembered_max)
        self._counter = Counter(quality, self._cells, self._agreement)
        self._edges = Edges(quality.lineage, edges_max=rules.edges_max)
        self._closing = Closing(quality, self._cells, rules.limits)
        self._clock = Clock(rules.idle_ms)
        self._waiting: dict[tuple[str, str, str], int] = {}

    def follow(self, block: AcceptedBlock) -> Followed:
        """Count a block, and judge the minutes that are over with it."""
        if block.topic == PROFILE_TOPIC:
            return Followed([], [], [])
        if not block.ids:
            self._count_refused(block)
            return Followed([], [], _with_lines(self._cells.take_rows(block.lane)))
        self._closing.add(self._counter.count_accepted(block))
        self._clock.see(block.topic, block.partitions, block.times_ms)
        self._count_refused(block)
        undeclared, edges = self._edges.take(block)
        counts = self._cells.take_rows(block.lane)
        reach_ms = self._clock.reach_ms
        over = (reach_ms - self._rules.grace_ms) // MINUTE_MS
        bodies, lines = self._closing.close_before(over, block.lane)
        bodies = [*map(_undeclared, undeclared), *bodies]
        records = [finding(block, number, body) for number, body in enumerate(bodies)]
        oldest = (reach_ms - self._rules.lateness_ms) // MINUTE_MS
        self._cells.drop_before(oldest)
        self._agreement.drop_before(oldest)
        rows = _with_lines(counts, edges, rows_of("anomalies", ANOMALIES, lines))
        return Followed(records, [], rows)

    def _count_refused(self, block: AcceptedBlock) -> None:
        """Until the lane knows a time, refused messages wait."""
        for (source, code), n in block.refused.items():
            where = (block.topic, source, code)
            self._waiting[where] = self._waiting.get(where, 0) + n
        reach_ms = self._clock.reach_ms if self._waiting else 0
        if reach_ms:
            for (topic, source, code), n in self._waiting.items():
                self._counter.count_refused(topic, {(source, code): n}, reach_ms // MINUTE_MS)
            self._waiting.clear()

    def dump(self) -> bytes:
        """The state as bytes with a version number."""
        return msgspec.msgpack.encode(
            {
                "version": STATE_VERSION,
                "cells": self._cells.dump(),
                "agreement": self._agreement.dump(),
                "edges": self._edges.dump(),
                "closing": self._closing.dump(),
                "clock": self._clock.dump(),
                "waiting": [[*where, n] for where, n in self._waiting.items()],
            }
        )

    def load(self, dumped: bytes) -> None:
        """Take back what `dump` gave.

        Errors: PermanentError for a state of another version.
        """
        state = read_state(dumped)
        self._cells.load(state["cells"])
        self._agreement.load(state["agreement"])
        self._edges.load(state["edges"])
        self._closing.load(state["closing"])
        self._clock.load(state["clock"])
        self._waiting = {(a, b, c): n for a, b, c, n in state["waiting"]}


def _with_lines(*parts: Rows) -> list[Rows]:
    return [part for part in parts if part.size]


def read_state(dumped: bytes) -> dict[str, Any]:
    """Decode a state.

    Errors: PermanentError for one that this release cannot read, naming what to do.
    """
    try:
        state = msgspec.msgpack.decode(dumped, type=dict[str, Any])
        found = f"state version {state.get('version')}"
    except msgspec.MsgspecError:
        state, found = {}, "bytes without a version"
    if state.get("version") != STATE_VERSION:
        raise PermanentError(
            do="resume",
            kind="quality",
            found=found,
            expected=f"version {STATE_VERSION}",
            hint="run the release that wrote it, or start from an empty data folder",
        )
    return state


def _undeclared(one: Undeclared) -> dict[str, Any]:
    key = Key(one.at_ms // MINUTE_MS, one.dataset, one.producer)
    return {
        "finding": "undeclared_flow",
        **about_key(key, "undeclared_flow", "lineage"),
        "severity": "error",
        "from_node": one.edge.from_node,
        "to_node": one.edge.to_node,
    }
