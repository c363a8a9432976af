"""Followers: what happens to accepted events behind the gate, lane by lane.

A follower is state and pure steps. It runs in two places, unchanged: in one process with the gate
(`flows.everything`), or as a flow of its own that reads the routed topics (`build`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Protocol, runtime_checkable

import bytewax.operators as op
import msgspec
from bytewax.dataflow import Dataflow, Stream
from bytewax.inputs import Source
from bytewax.operators import StatefulBatchLogic
from bytewax.outputs import Sink

from connectors.crash import crash_point
from connectors.metrics import LEFT_OUT
from connectors.tell import tells
from flows.ingest import make_checker, read_policy
from flows.settings import Settings
from flows.steps.accept import MODEL_TOPIC, NOTICE_TOPICS, PROFILE_TOPIC, notices_of
from flows.steps.check import BlockChecker
from flows.steps.keep import OpenJournal
from flows.steps.read_routed import RoutedReader, profiles_of
from schemas.blocks import AcceptedBlock, Followed, OutRecord, RawBlock, Rows
from schemas.policy import Policy
from schemas.ticket_reader import TicketReader

TABLES: Final = (PROFILE_TOPIC, *NOTICE_TOPICS)
SHARED: Final = (MODEL_TOPIC,)
"""Tables that every lane reads whole."""

STREAMS: Final = ("ntf.routed.open.v1", "ntf.routed.restricted.v1", "ntf.routed.pci.v1")


class Follower(Protocol):
    """One lane's part of a step behind the gate.

    State: everything that counts is in `dump`; blocks of profiles are given again at each start.
    Delivery: after `load` the same blocks lead to the same records and rows. No clock: time is
    what the blocks say.
    """

    def follow(self, block: AcceptedBlock) -> Followed:
        """Take a block, and give all that follows from it."""
        ...

    def dump(self) -> bytes:
        """The state as bytes with a version number; a copy, whatever follows."""
        ...

    def load(self, dumped: bytes) -> None:
        """Take back what `dump` gave, in this release or an earlier one."""
        ...


@runtime_checkable
class Keeping(Protocol):
    """A follower that may keep what grows in journals, and not in what it dumps."""

    def keep_in(self, journals: OpenJournal | None) -> None:
        """Say where they are, before `load` and the first block."""
        ...


class Step(NamedTuple):
    """A follower as a step of a flow: its id, a key of saved state, and how to make one."""

    step_id: str
    make: Callable[[], Follower]
    sees_refused: bool = False
    # also given the blocks of which the gate let nothing through.
    answers: bool = False
    # gives records that somebody waits for: they leave before what other steps make of a block.


class FollowLogic(StatefulBatchLogic[AcceptedBlock, Followed, bytes]):
    """One lane's follower behind Bytewax's interface."""

    def __init__(
        self,
        follower: Follower,
        resume: bytes | None,
        step_id: str,
        *,
        sees_refused: bool = False,
        journals: OpenJournal | None = None,
    ) -> None:
        self._follower = follower
        self._step_id = step_id
        self._sees_refused = sees_refused
        if isinstance(follower, Keeping):
            follower.keep_in(journals)
        if resume is not None:
            follower.load(resume)

    def on_batch(self, values: list[AcceptedBlock]) -> tuple[list[Followed], bool]:
        """Follow the blocks; the lane is never done."""
        return tells(self._step_id)(self._follow)(values), False

    def _follow(self, values: list[AcceptedBlock]) -> list[Followed]:
        followed = [
            self._follower.follow(block)
            for block in values
            if block.ids or block.gone or self._sees_refused
        ]
        crash_point("after_state")
        return followed

    def on_eof(self) -> tuple[list[Followed], bool]:
        """Close nothing: the lane goes on at the next start."""
        return [], False

    def snapshot(self) -> bytes:
        """A copy of the state."""
        dumped = tells(self._step_id)(self._follower.dump)()
        crash_point("in_snapshot")
        return dumped


class RoutedFollower:
    """A follower of routed topics: reads their blocks, and those of the profiles."""

    def __init__(self, follower: Follower, reader: RoutedReader, checker: BlockChecker) -> None:
        self._follower = follower
        self._reader = reader
        self._checker = checker

    def follow_raw(self, raw: RawBlock) -> Followed:
        """Take a raw block, and give all that follows from it."""
        block: AcceptedBlock | None
        if raw.topic in NOTICE_TOPICS:
            block = notices_of(raw)
        elif raw.topic == PROFILE_TOPIC:
            block = profiles_of(self._checker.check(raw))
        else:
            block, left_out = self._reader.read(raw)
            for code, count in left_out.items():
                LEFT_OUT.labels(raw.topic, code).inc(count)
        return Followed([], [], []) if block is None else self._follower.follow(block)

    def keep_in(self, journals: OpenJournal | None) -> None:
        """Keep what grows in journals."""
        if isinstance(self._follower, Keeping):
            self._follower.keep_in(journals)

    def dump(self) -> bytes:
        """Both states as bytes."""
        return msgspec.msgpack.encode((self._reader.dump(), self._follower.dump()))

    def load(self, dumped: bytes) -> None:
        """Take both states back."""
        reader, follower = msgspec.msgpack.decode(dumped, type=tuple[bytes, bytes])
        self._reader.load(reader)
        self._follower.load(follower)


class RoutedLogic(StatefulBatchLogic[RawBlock, Followed, bytes]):
    """One lane's follower of routed topics behind Bytewax's interface."""

    def __init__(self, follower: RoutedFollower, resume: bytes | None, step_id: str) -> None:
        self._follower = follower
        self._step_id = step_id
        if resume is not None:
            follower.load(resume)

    def on_batch(self, values: list[RawBlock]) -> tuple[list[Followed], bool]:
        """Follow the blocks; the lane is never done."""
        follow = tells(self._step_id)(self._follower.follow_raw)
        followed = [follow(block) for block in values]
        crash_point("after_state")
        return followed, False

    def on_eof(self) -> tuple[list[Followed], bool]:
        """Close nothing: the lane goes on at the next start."""
        return [], False

    def snapshot(self) -> bytes:
        """A copy of the state."""
        dumped = tells(self._step_id)(self._follower.dump)()
        crash_point("in_snapshot")
        return dumped


class Sinks(NamedTuple):
    """Where everything goes: records once an epoch, records at once, rows."""

    records: Sink[tuple[str, Sequence[OutRecord]]]
    prompt: Sink[tuple[str, Sequence[OutRecord]]]
    tables: Sink[tuple[str, list[Rows]]]


def step_ids(step_id: str) -> tuple[str, ...]:
    """The step ids of a flow of its own, keys of saved state."""
    return (
        "read_lanes",
        step_id,
        "take_records",
        "take_prompt",
        "take_rows",
        "publish_records",
        "publish_prompt",
        "write_rows",
    )


def build(
    flow_id: str,
    settings: Settings,
    step: Step,
    *,
    source: Source[tuple[str, RawBlock]],
    sinks: Sinks,
    journals: OpenJournal | None = None,
) -> Dataflow:
    """Wire one follower as a flow of its own, from the routed topics to its sinks."""
    policy = read_policy(settings)

    def make_logic(resume: bytes | None) -> RoutedLogic:
        routed = _routed(settings, policy, step)
        routed.keep_in(journals)
        return RoutedLogic(routed, resume, step.step_id)

    flow = Dataflow(flow_id)
    blocks = op.input("read_lanes", flow, source)
    followed = op.stateful_batch(step.step_id, blocks, tells(step.step_id)(make_logic))
    connect_prompt(followed, sinks)
    connect_sinks([followed], sinks)
    return flow


def _routed(settings: Settings, policy: Policy, step: Step) -> RoutedFollower:
    key = settings.ticket_key
    reader = TicketReader(policy, key.get_secret_value().encode() if key else None)
    return RoutedFollower(step.make(), RoutedReader(reader), make_checker(settings, policy))


def connect_prompt(followed: Stream[tuple[str, Followed]], sinks: Sinks) -> None:
    """Bring what has to be out at once to its sink."""
    prompt = op.map_value("take_prompt", followed, lambda item: item.prompt)
    op.output("publish_prompt", prompt, sinks.prompt)


def connect_sinks(
    followed: Sequence[Stream[tuple[str, Followed]]],
    sinks: Sinks,
    *,
    records: Sequence[Stream[tuple[str, Sequence[OutRecord]]]] = (),
    rows: Sequence[Stream[tuple[str, list[Rows]]]] = (),
) -> None:
    """Bring what followers give once an epoch, and these streams, to the sinks."""
    all_of = followed[0] if len(followed) == 1 else op.merge("join_followed", *followed)
    out = op.map_value("take_records", all_of, lambda item: item.records)
    more = op.map_value("take_rows", all_of, lambda item: item.rows)
    op.output(
        "publish_records",
        op.merge("join_records", out, *records) if records else out,
        sinks.records,
    )
    op.output("write_rows", op.merge("join_rows", more, *rows) if rows else more, sinks.tables)
