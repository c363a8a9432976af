"""A fixed short set of seeds: everything breaks, and every invariant holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.faults import pick
from tests.chaos.runner import Plan, run
from tests.services import Breakable

SECONDS = 25.0


@pytest.mark.parametrize(("seed", "cells"), [(11, 0), (12, 1), (13, 3)])
def test_a_run_of_faults_loses_and_doubles_nothing(
    breakable_kafka: Breakable, tmp_path: Path, seed: int, cells: int
) -> None:
    plan = Plan(seed=seed, seconds=SECONDS, faults=tuple(pick("")), cells=cells)
    verdict = run(plan, tmp_path, breakable_kafka)

    assert verdict.ok, (verdict.line(), verdict.sentences, verdict.notes)
    assert verdict.killed + sum(verdict.faults.values()) > 0
    assert verdict.planted > 0
