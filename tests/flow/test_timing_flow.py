"""Delivery times behind the gate and on their own: the same, whatever is aborted where."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.testing import run_main

from connectors.memory import ABORT, Journal, MemorySink, MemorySource
from flows import everything, follow
from flows.follow import Sinks, Step
from flows.timing.flow import make_step
from flows.timing.lane import TimingLane
from schemas.blocks import OutRecord, RawBlock
from tests.follower import routed_blocks
from tests.messages import HOUR_MS, NOW_MS, Message, profile, settings, with_body
from tests.timing_world import MINUTE_MS, Tape, decisions, notice, person, reacted, request, sent

MORE = {
    "timing": {"window_s": 3_600, "publish_s": 60, "results_s": 60, "holdout_share": 0.3},
    "time": {"lateness_s_max": 31_000_000},
}
PEOPLE = range(1, 13)
PLAN_H = range(1, 40, 3)


def home(number: int) -> Message:
    message = profile(number, subject=person(number), zone="Europe/Berlin", consent=["marketing"])
    return with_body(message, preferred_hours=[8 + number])


def blocks() -> list[RawBlock]:
    """People are asked for, written to when they like, and answer or not; one is forgotten."""
    tape = Tape()
    found = [tape.block(*(home(n) for n in PEOPLE))]
    for turn in range(4):
        at_ms = NOW_MS + turn * 48 * HOUR_MS
        ids = {n: turn * 100 + n for n in PEOPLE}
        asked = [
            request(ids[n], at_ms=at_ms, subject=person(n), purpose="marketing") for n in PEOPLE
        ]
        found.append(tape.block(*asked[:8]))
        found.append(tape.block(*asked[8:]))
        went = [
            sent(ids[n], at_ms=at_ms + 10 * HOUR_MS + n * MINUTE_MS, subject=person(n))
            for n in PEOPLE
        ]
        found.append(tape.block(*went))
        answers = [
            reacted(ids[n], at_ms=at_ms + 10 * HOUR_MS + 3 * n * MINUTE_MS, subject=person(n))
            for n in PEOPLE
            if n % 3
        ]
        found.append(tape.block(*answers))
        if turn == 1:
            found.append(tape.block(notice("airside.erasure.v1", person(3), b"{}")))
        if turn == 2:
            found.append(tape.block(home(5)._replace(value=None)))
            found.append(tape.block(home(40)))
    return found


class Run:
    """One flow and its store, run as often as it is aborted and once more."""

    def __init__(self, folder: Path, items: list[RawBlock | str], *, alone: bool = False) -> None:
        self.journal = Journal()
        self.lane: TimingLane | None = None
        source = MemorySource({0: items}, tables=follow.TABLES)
        folder.mkdir()
        init_db_dir(folder, 1)
        recovery = RecoveryConfig(folder, backup_interval=timedelta(0))
        for _ in range(items.count(ABORT) + 1):
            flow = self._flow(source, alone=alone)
            run_main(flow, epoch_interval=timedelta(0), recovery_config=recovery)
        assert len(source.aborted) == items.count(ABORT)

    def _flow(self, source: MemorySource, *, alone: bool) -> Any:
        made = settings(**MORE)
        plain = make_step(made)

        def make() -> TimingLane:
            lane = plain.make()
            assert isinstance(lane, TimingLane)
            self.lane = lane
            return lane

        step = Step(plain.step_id, make)
        parts: list[Any] = [MemorySink(n, self.journal, 1) for n in ("records", "prompt", "tables")]
        sinks = Sinks(*parts)
        if alone:
            return follow.build("timing", made, step, source=source, sinks=sinks)
        return everything.build(made, [step], source=source, sinks=sinks)

    def records(self, sink: str, topic: str) -> list[OutRecord]:
        """By origin, every copy of one being the same."""
        found: dict[Any, OutRecord] = {}
        for part in self.journal.items(sink):
            for record in part:
                if record.topic.startswith(topic):
                    key = (record.topic, record.origin)
                    assert record == found.setdefault(key, record)
        return list(found.values())

    def outcomes(self) -> dict[Any, int]:
        """What came of each decision: the last word."""
        found: dict[Any, int] = {}
        for part in self.journal.items("tables"):
            for rows in part:
                if rows.table == "decision_outcomes":
                    columns = rows.columns
                    ids = zip(columns["decision_id"], columns["responded"], strict=True)
                    found.update(ids)
        return found


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(tmp_path_factory.mktemp("timing") / "straight", list(blocks()))


def test_every_request_gets_one_decision_at_once(straight: Run) -> None:
    found = decisions(straight.records("prompt", "ntf.decisions"))

    assert 4 * len(PEOPLE) - 1 == len({one["journey_id"] for one in found})
    assert {"optimised", "holdout"} <= {one["arm"] for one in found}


def test_who_lost_the_profile_that_consented_gets_no_decision_any_more(straight: Run) -> None:
    found = decisions(straight.records("prompt", "ntf.decisions"))
    late = [one["journey_id"] for one in found if one["journey_id"] > "jrn-000000000300"]

    assert "jrn-000000000305" not in late
    assert len(PEOPLE) - 1 == len(late)


@pytest.mark.parametrize("at", range(len(blocks())))
def test_an_abort_anywhere_leads_to_the_same_decisions_and_the_same_model(
    tmp_path: Path, straight: Run, at: int
) -> None:
    items: list[RawBlock | str] = list(blocks())
    items.insert(at + 1, ABORT)
    run = Run(tmp_path / "store", items)

    for sink, topic in (
        ("prompt", "ntf.decisions"),
        ("records", "airside.model"),
        ("records", "airside.experiments"),
    ):
        assert straight.records(sink, topic) == run.records(sink, topic)
    assert straight.outcomes() == run.outcomes()
    assert straight.lane is not None
    assert run.lane is not None
    assert straight.lane.state_hash() == run.lane.state_hash()
    assert straight.lane.dump() == run.lane.dump()


def test_sums_and_verdicts_are_told_and_name_nobody(straight: Run) -> None:
    sums = straight.records("records", "airside.model")
    verdicts = straight.records("records", "airside.experiments")

    assert sums
    assert b"usr_" not in b"".join(record.value or b"" for record in sums)
    assert {"collecting"} == {orjson.loads(record.value or b"")["state"] for record in verdicts}


def test_the_flow_of_its_own_decides_what_the_gate_routed(tmp_path: Path, straight: Run) -> None:
    items: list[RawBlock | str] = [blocks()[0]]
    routed = straight.records("records", "ntf.routed")
    items += routed_blocks(routed, lane=0, received_ms=NOW_MS)
    alone = Run(tmp_path / "alone", items, alone=True)

    fused = decisions(straight.records("prompt", "ntf.decisions"))
    found = decisions(alone.records("prompt", "ntf.decisions"))
    assert {one["decision_id"] for one in fused} == {one["decision_id"] for one in found}
