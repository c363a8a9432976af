"""The ingest dataflow: ticketed streams in; routed streams, facts, rollups and fates out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import bytewax.operators as op
from bytewax.dataflow import Dataflow, Stream
from bytewax.inputs import Source
from bytewax.operators import StatefulBatchLogic
from bytewax.outputs import Sink

from connectors.crash import crash_point
from connectors.lane_sink import lane_key
from connectors.tell import tells
from flows.places import POLICY
from flows.settings import Settings
from flows.steps.accept import NOTICE_TOPICS, notices_of
from flows.steps.check import BlockChecker
from flows.steps.gate import GateRules, LaneGate
from flows.steps.keep import OpenJournal
from flows.steps.limit import LimitRules
from flows.steps.publish import Publisher
from flows.steps.seal import Sealer
from schemas.blocks import CheckedBlock, Outputs, OutRecord, RawBlock, Rows
from schemas.events import EVENT_TYPES
from schemas.policy import Policy, load_policy
from schemas.tickets import no_tickets
from schemas.topics_catalog import load_topics

FLOW_ID: Final = "ingest"
TABLES: Final = ("ntf.profiles.v1",)
STREAMS: Final = ("ntf.requests.v1", "ntf.delivery.v1", "ntf.engagement.v1")

STEP_IDS: Final = (
    "read_lanes",
    "check_block",
    "pass_gate",
    "take_records",
    "take_rows",
    "publish_records",
    "write_rows",
)
"""Keys of saved state: renaming one forgets its state, so a change needs a changelog line."""

Watch = Callable[[LaneGate, Outputs], None]


class GateLogic(StatefulBatchLogic[CheckedBlock, Outputs, bytes]):
    """One lane's gate behind Bytewax's interface. Snapshot: bytes with a version number.

    What the gate remembers of events is in a journal, where there are `journals`.
    """

    def __init__(
        self, gate: LaneGate, resume: bytes | None, watch: Watch, journals: OpenJournal | None
    ) -> None:
        self._gate = gate
        self._watch = watch
        gate.kept.keep_in(journals)
        if resume is not None:
            gate.load(resume)

    @tells("pass_gate")
    def on_batch(self, values: list[CheckedBlock]) -> tuple[list[Outputs], bool]:
        """Pass the blocks through; the lane is never done."""
        outputs = [self._pass(block) for block in values]
        crash_point("after_state")
        return outputs, False

    def _pass(self, block: CheckedBlock) -> Outputs:
        raw = block.raw
        if raw.topic in NOTICE_TOPICS:
            return Outputs(raw.lane, raw.topic, [], [], {}, accepted=notices_of(raw))
        if not self._gate.kept.is_kept:
            self._gate.kept.keep_as(f"gate-{lane_key(raw.lane)}")
        output = self._gate.pass_block(block)
        self._watch(self._gate, output)
        return output

    @tells("pass_gate")
    def on_eof(self) -> tuple[list[Outputs], bool]:
        """Close nothing: the lane goes on at the next start."""
        return [], False

    @tells("pass_gate")
    def snapshot(self) -> bytes:
        """A copy of the state."""
        dumped = self._gate.dump()
        crash_point("in_snapshot")
        return dumped


def read_policy(settings: Settings) -> Policy:
    """The policy that the settings name, or the one that comes with Airside."""
    return load_policy(settings.policy or POLICY)


def _secret(value: Any) -> str | None:
    return None if value is None else str(value.get_secret_value())


def make_checker(settings: Settings, policy: Policy) -> BlockChecker:
    """The checking step under these settings."""
    key = _secret(settings.ticket_key)
    return BlockChecker(
        policy=policy,
        event_types=EVENT_TYPES,
        topics=load_topics(),
        skew_ms_max=int(settings.time.skew_s_max * 1_000),
        body_bytes_max=settings.body_bytes_max,
        key=key.encode() if key else None,
    )


def make_gate(settings: Settings, policy: Policy, *, followed: bool = False) -> LaneGate:
    """One lane's gate under these settings; `followed` where other steps follow its events."""
    key = _secret(settings.ticket_key)
    rules = GateRules(
        policy=policy,
        lateness_ms_max=int(settings.time.lateness_s_max * 1_000),
        duplicate_ms_max=int(settings.time.duplicate_s_max * 1_000),
        duplicates_max=settings.time.duplicates_max,
        limit=LimitRules(settings.limit.run_max, settings.limit.share_max, settings.limit.window),
        rollup_cells_max=settings.time.rollup_cells_max,
    )
    publisher = Publisher(
        node=settings.node,
        policy=policy.version,
        sealer=Sealer(_secret(settings.quarantine_key)),
        key=key.encode() if key else None,
    )
    return LaneGate(rules, publisher, followed=followed)


def add_gate(
    flow: Dataflow,
    settings: Settings,
    source: Source[tuple[str, RawBlock]],
    *,
    watch: Watch,
    followed: bool,
    journals: OpenJournal | None,
) -> Stream[tuple[str, Outputs]]:
    """Wire everything from the source to the gate."""
    policy = read_policy(settings)
    checker = make_checker(settings, policy)

    @tells("pass_gate")
    def make_logic(resume: bytes | None) -> GateLogic:
        gate = make_gate(settings, policy, followed=followed)
        return GateLogic(gate, resume, watch, journals)

    def check(raw: RawBlock) -> CheckedBlock:
        if raw.topic in NOTICE_TOPICS:
            # What Airside tells itself has no ticket to check.
            return CheckedBlock(raw, no_tickets(0), [], {}, {})
        return checker.check(raw)

    blocks = op.input("read_lanes", flow, source)
    checked = op.map_value("check_block", blocks, tells("check_block")(check))
    return op.stateful_batch("pass_gate", checked, make_logic)


def build(
    settings: Settings,
    *,
    source: Source[tuple[str, RawBlock]],
    records: Sink[tuple[str, Sequence[OutRecord]]],
    tables: Sink[tuple[str, list[Rows]]],
    watch: Watch = lambda _gate, _outputs: None,
    journals: OpenJournal | None = None,
) -> Dataflow:
    """Wire the dataflow between a source and two sinks.

    Shapes: items are `(lane, block)` all the way; nothing travels one message at a time.
    State: remembered events are in `journals`, where there are some, and the rest in snapshots.
    """
    flow = Dataflow(FLOW_ID)
    outputs = add_gate(flow, settings, source, watch=watch, followed=False, journals=journals)
    out = op.map_value("take_records", outputs, lambda item: item.records)
    rows = op.map_value("take_rows", outputs, lambda item: item.rows)
    op.output("publish_records", out, records)
    op.output("write_rows", rows, tables)
    return flow
