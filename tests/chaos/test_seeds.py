"""Two short runs in which everything breaks in turn, and every invariant holds.

Between them they have one fault of each family: of processes and their crash points, of cells,
lanes that are taken over, stores, broker, ClickHouse and producers; clocks are in `test_clock.py`.
`just chaos SEED` draws from all faults, for longer: signals, freezes, full disks and others are
there only.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.faults import pick
from tests.chaos.oracle_followed import DECISIONS, MODEL, OUTCOMES
from tests.chaos.runner import Plan, run
from tests.services import Breakable

SEED = 11
SECONDS = 25.0
RUNS = [
    (
        "ingest",
        1,
        "crash_between_offsets_and_commit,rescale,hijack,store_corrupt,broker_kill,clock_jump",
    ),
    (
        "all",
        0,
        "clickhouse_slow_kill,crash_before_insert,clickhouse_timeout_after,skew",
    ),
]


@pytest.mark.parametrize(("flow", "cells", "faults"), RUNS)
def test_a_run_of_faults_loses_and_doubles_nothing(
    breakable_kafka: Breakable, tmp_path: Path, flow: str, cells: int, faults: str
) -> None:
    load_s, chosen = SECONDS, tuple(pick(faults))
    plan = Plan(SEED, load_s, chosen, flow=flow, cells=cells, each_once=True)
    verdict = run(plan, tmp_path, breakable_kafka)

    assert verdict.ok, (verdict.line(), verdict.sentences, verdict.notes)
    assert dict.fromkeys(faults.split(","), 1) == verdict.faults
    assert verdict.killed > 0
    assert verdict.planted > 0
    if flow == "all":
        assert {DECISIONS, OUTCOMES, MODEL, "journeys"} <= verdict.followed.keys()
