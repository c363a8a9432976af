"""Followers behind the gate and on their own: the same events, whatever is aborted where."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.testing import run_main

from connectors.memory import ABORT, Journal, MemorySink, MemorySource
from flows import everything, follow
from flows.follow import Sinks, Step
from flows.ingest import TABLES
from schemas.blocks import OutRecord, RawBlock
from schemas.ticket import format_time
from tests.follower import Keeper, routed_blocks
from tests.messages import (
    HOUR_MS,
    NOW_MS,
    PERSON,
    block,
    delivered,
    payment,
    profile,
    settings,
    with_header,
)

STEP = Step("keep_events", Keeper)


def blocks() -> list[RawBlock]:
    runs = [
        [profile(1)],
        [delivered(1, at_ms=NOW_MS - HOUR_MS), delivered(2), delivered(2)],
        [payment(3, correlationid="jrn-000000000001")],
        [profile(2, zone="Europe/Oslo"), profile(3, subject="usr_0000000000000002")],
        [delivered(4, correlationid="jrn-000000000001")],
        [profile(4)._replace(value=None)],
        [delivered(5), delivered(6)],
    ]
    ends: Counter[str] = Counter()
    found = []
    for run in runs:
        found.append(block(run, first=ends[run[0].topic]))
        ends[run[0].topic] += len(run)
    return found


def sinks_into(journal: Journal) -> Sinks:
    return Sinks(
        MemorySink("records", journal, 1),
        MemorySink("prompt", journal, 1),
        MemorySink("tables", journal, 1),
    )


class Run:
    """One flow and its store, run as often as it is aborted and once more."""

    def __init__(self, folder: Path, items: list[RawBlock | str], *, alone: bool) -> None:
        self.journal = Journal()
        source = MemorySource({0: items}, tables=TABLES)
        folder.mkdir()
        init_db_dir(folder, 1)
        recovery = RecoveryConfig(folder, backup_interval=timedelta(0))
        for _ in range(items.count(ABORT) + 1):
            flow = self._flow(source, alone=alone)
            run_main(flow, epoch_interval=timedelta(0), recovery_config=recovery)
        assert len(source.aborted) == items.count(ABORT)

    def _flow(self, source: MemorySource, *, alone: bool) -> Dataflow:
        sinks = sinks_into(self.journal)
        if alone:
            return follow.build("keep", settings(), STEP, source=source, sinks=sinks)
        return everything.build(settings(), [STEP], source=source, sinks=sinks)

    def published(self, sink: str, topic: str) -> dict[Any, OutRecord]:
        """By origin, every copy of one being the same."""
        found: dict[Any, OutRecord] = {}
        for part in self.journal.items(sink):
            for record in part:
                if record.topic.startswith(topic):
                    assert record == found.setdefault(record.origin, record)
        return found

    def said(self, sink: str = "records") -> list[bytes | None]:
        return [record.value for record in self.published(sink, "kept").values()]


KEPT = [
    b"jrn-000000000001 1 Asia/Tokyo",
    b"jrn-000000000002 1 Asia/Tokyo",
    b"jrn-000000000001 2 Asia/Tokyo",
    b"jrn-000000000001 3 Europe/Oslo",
    b"jrn-000000000005 1 ",
    b"jrn-000000000006 1 ",
]


def test_a_follower_behind_the_gate_gets_each_accepted_event_once(tmp_path: Path) -> None:
    run = Run(tmp_path / "store", list(blocks()), alone=False)

    assert run.said() == KEPT
    assert run.said("prompt") == KEPT
    assert len(run.published("records", "ntf.routed")) == len(KEPT) + 3


@pytest.mark.parametrize("at", range(len(blocks())))
def test_an_abort_anywhere_leads_to_the_same_records(tmp_path: Path, at: int) -> None:
    items: list[RawBlock | str] = list(blocks())
    items.insert(at + 1, ABORT)

    assert Run(tmp_path / "store", items, alone=False).said() == KEPT


def test_a_follower_on_its_own_gets_the_events_that_the_gate_routed(tmp_path: Path) -> None:
    gate = Run(tmp_path / "gate", list(blocks()), alone=False)
    routed = gate.published("records", "ntf.routed").values()
    items: list[RawBlock | str] = [blocks()[0]]
    items += routed_blocks(routed, lane=0, received_ms=NOW_MS)

    alone = Run(tmp_path / "alone", items, alone=True)

    # Profiles are a table there, and what came later is not known yet.
    assert [said and said.replace(b"Asia/Tokyo", b"") for said in alone.said()] == [
        said.rpartition(b" ")[0] + b" " for said in KEPT
    ]


def test_what_an_at_least_once_gate_repeats_is_followed_once(tmp_path: Path) -> None:
    gate = Run(tmp_path / "gate", list(blocks()), alone=False)
    routed = list(gate.published("records", "ntf.routed").values())
    twice = routed_blocks([*routed[:4], *routed[1:]], lane=0, received_ms=NOW_MS)
    cut: list[RawBlock | str] = [twice[0], ABORT, *twice[1:]]

    assert len(KEPT) == len(Run(tmp_path / "alone", cut, alone=True).said())


def after_a_rest(blocks: list[RawBlock]) -> list[RawBlock | str]:
    """The last of these blocks is read when all partitions had been quiet, its own among them."""
    blocks[-1].quiet = tuple({(block.topic, part) for block in blocks for part in block.partitions})
    return list(blocks)


def test_a_quiet_partition_holds_event_time_back_for_no_follower(tmp_path: Path) -> None:
    """A profile or a payment long ago would else keep journeys from ever timing out."""
    items = [
        block([with_header(profile(1), "ce_time", format_time(NOW_MS - 60 * HOUR_MS))]),
        block([payment(2, at_ms=NOW_MS - 20 * HOUR_MS)]),
        block([delivered(3, at_ms=NOW_MS - 10 * HOUR_MS)]),
        block([delivered(4, at_ms=NOW_MS)], first=1),
    ]
    gate = Run(tmp_path / "gate", after_a_rest(items), alone=False)
    routed = list(gate.published("records", "ntf.routed").values())
    again = after_a_rest(routed_blocks(routed, lane=0, received_ms=NOW_MS))
    alone = Run(tmp_path / "alone", again, alone=True)

    for run in (gate, alone):
        rows = [rows for part in run.journal.items("tables") for rows in part]
        assert NOW_MS == next(r for r in reversed(rows) if r.table == "kept").columns["ver"][-1]


def test_a_removed_profile_is_told(tmp_path: Path) -> None:
    keeper = Keeper()
    step = Step("keep_events", lambda: keeper)
    journal = Journal()
    sinks = sinks_into(journal)
    flow = everything.build(
        settings(), [step], source=MemorySource({0: list(blocks())}), sinks=sinks
    )

    run_main(flow)

    assert PERSON not in keeper.zones
    assert keeper.zones == {"usr_0000000000000002": "Asia/Tokyo"}


def test_the_steps_of_both_flows_are_the_committed_ones() -> None:
    sinks = sinks_into(Journal())
    source = MemorySource({0: []})
    fused = everything.build(settings(), [STEP], source=source, sinks=sinks)
    alone = follow.build("keep", settings(), STEP, source=source, sinks=sinks)

    assert {step.step_name for step in fused.substeps} == set(everything.step_ids(["keep_events"]))
    assert {step.step_name for step in alone.substeps} == set(follow.step_ids("keep_events"))
