"""Everything in one process: the gate and all that follows it, without a topic in between."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import bytewax.operators as op
from bytewax.dataflow import Dataflow, Stream
from bytewax.inputs import Source

from connectors.tell import tells
from flows.follow import Follower, FollowLogic, Sinks, Step, connect_prompt, connect_sinks
from flows.ingest import Watch, add_gate
from flows.settings import Settings
from flows.steps.keep import OpenJournal
from schemas.blocks import Followed, RawBlock

FLOW_ID: Final = "all"


def step_ids(steps: Sequence[str]) -> tuple[str, ...]:
    """The step ids of the flow with these followers, keys of saved state."""
    return (
        "read_lanes",
        "check_block",
        "pass_gate",
        "take_accepted",
        *steps,
        *(("join_followed",) if len(steps) > 1 else ()),
        "take_gate_records",
        "take_gate_rows",
        "take_records",
        "take_prompt",
        "take_rows",
        "join_records",
        "publish_records",
        "publish_prompt",
        "join_rows",
        "write_rows",
    )


def build(
    settings: Settings,
    steps: Sequence[Step],
    *,
    source: Source[tuple[str, RawBlock]],
    sinks: Sinks,
    watch: Watch = lambda _gate, _outputs: None,
    journals: OpenJournal | None = None,
) -> Dataflow:
    """Wire the gate and its followers between a source and the sinks.

    Shapes: items are `(lane, block)` all the way; nothing travels one message at a time. Of
    `steps`, one at most answers.
    State: remembered events and people are in `journals`, where there are some, and the rest in
    snapshots.
    """
    flow = Dataflow(FLOW_ID)
    outputs = add_gate(flow, settings, source, watch=watch, followed=True, journals=journals)
    accepted = op.filter_map_value(
        "take_accepted", outputs, lambda item: item.accepted or item.only_refused
    )
    followed: list[Stream[tuple[str, Followed]]] = []
    # The engine runs steps in the order in which they are wired, so who answers comes first.
    for step in sorted(steps, key=lambda one: not one.answers):

        @tells(step.step_id)
        def make_logic(resume: bytes | None, step: Step = step) -> FollowLogic:
            follower: Follower = step.make()
            return FollowLogic(
                follower,
                resume,
                step.step_id,
                sees_refused=step.sees_refused,
                journals=journals,
            )

        followed.append(op.stateful_batch(step.step_id, accepted, make_logic))
        if len(followed) == 1:
            connect_prompt(followed[0], sinks)
    records = op.map_value("take_gate_records", outputs, lambda item: item.records)
    rows = op.map_value("take_gate_rows", outputs, lambda item: item.rows)
    connect_sinks(followed, sinks, records=[records], rows=[rows])
    return flow
