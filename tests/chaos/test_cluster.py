"""The same flow in the engine's own cluster: what ends one process ends all; nothing is lost."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from tests.chaos.faults import pick
from tests.chaos.runner import Plan, run
from tests.services import Breakable

pytestmark = pytest.mark.long

SEED: Final = 31
FAULTS: Final = (
    "kill,kill_all,crash_in_snapshot,crash_between_offsets_and_commit,sigterm,freeze,hijack,"
    "broker_kill,clickhouse_timeout_after,poison"
)


def test_a_cluster_that_is_tormented_loses_and_doubles_nothing(
    breakable_kafka: Breakable, tmp_path: Path
) -> None:
    chosen = tuple(pick(FAULTS, cluster=True))
    plan = Plan(SEED, 30.0, chosen, cells=0, cluster=True, each_once=True)
    verdict = run(plan, tmp_path, breakable_kafka)

    assert verdict.ok, (verdict.line(), verdict.sentences, verdict.notes)
    assert dict.fromkeys(FAULTS.split(","), 1) == verdict.faults
    assert verdict.killed > 0
