"""Each checker fails when the protection that it watches is taken away.

A run is the same as any other, but for what `sabotage.py` breaks inside the target, a setting, or
a table. What a run must show is named; what it must not show proves that checkers are apart.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client

from tests.chaos.faults import pick
from tests.chaos.runner import Plan, Verdict, run
from tests.services import Breakable

pytestmark = pytest.mark.long

SEED = 5


def plain_facts(client: Client) -> None:
    """Give the facts table a key by which a row that is written again is another row."""
    made = str(client.query("SHOW CREATE TABLE facts").result_rows[0][0])
    made = made.replace("facts", "plain", 1)
    made = made.replace("`topic`", "`at` DateTime64(9) DEFAULT now64(9),\n    `topic`", 1)
    made, count = re.subn(r"ORDER BY \([^\n]*\)", "ORDER BY (event_id, at)", made)
    assert 1 == count
    client.command(made)
    client.command("RENAME TABLE facts TO right_facts, plain TO facts")


def controlled(
    folder: Path, kafka: Breakable, *, faults: str, sabotage: str = "", **more: Any
) -> Verdict:
    plan = Plan(
        seed=SEED,
        seconds=more.pop("seconds", 5.0),
        faults=tuple(pick(faults)),
        rate=300,
        sabotage=sabotage,
        rest_s=more.pop("rest_s", 8.0),
        **more,
    )
    return run(plan, folder, kafka)


def shows(verdict: Verdict, *kinds: str) -> None:
    missing = [kind for kind in kinds if not verdict.violations.get(kind)]

    assert [] == missing, (verdict.line(), verdict.sentences, verdict.notes)


def test_without_the_watermark_doubles_are_found(
    breakable_kafka: Breakable, tmp_path: Path
) -> None:
    verdict = controlled(
        tmp_path, breakable_kafka, faults="crash_after_sink_commit", sabotage="no_watermark"
    )

    shows(verdict, "doubled", "truth")
    assert {"doubled", "truth", "misordered"} >= set(verdict.violations)


def test_without_transactions_and_replacing_tables_doubles_are_found(
    breakable_kafka: Breakable, tmp_path: Path
) -> None:
    verdict = controlled(
        tmp_path,
        breakable_kafka,
        faults="crash_in_snapshot,crash_after_insert",
        more={"AIRSIDE_KAFKA__DELIVERY": "at_least_once"},
        prepare=plain_facts,
        seconds=20.0,
    )

    shows(verdict, "doubled", "wrong_facts")


def test_a_lost_record_a_disorder_a_sum_and_a_leak_are_found(
    breakable_kafka: Breakable, tmp_path: Path
) -> None:
    verdict = controlled(
        tmp_path,
        breakable_kafka,
        faults="skew",
        sabotage="drop_records,swap_records,deltas,leak_body",
    )

    shows(verdict, "lost", "misordered", "wrong_cells", "leaked", "truth")
    assert not verdict.violations.get("doubled")


def test_rows_that_come_after_their_epoch_are_missed(
    breakable_kafka: Breakable, tmp_path: Path
) -> None:
    verdict = controlled(tmp_path, breakable_kafka, faults="kill", sabotage="late_flush")

    shows(verdict, "wrong_facts", "wrong_fates", "undecided")


def test_forgotten_state_is_found_in_sums_and_books(
    breakable_kafka: Breakable, tmp_path: Path
) -> None:
    verdict = controlled(tmp_path, breakable_kafka, faults="kill", sabotage="forget_state")

    shows(verdict, "wrong_cells", "wrong_fates")


def test_what_is_forgotten_or_decided_anew_behind_the_gate_is_found(
    breakable_kafka: Breakable, tmp_path: Path
) -> None:
    """Journeys, and decisions of an epoch that is repeated."""
    verdict = controlled(
        tmp_path,
        breakable_kafka,
        faults="clickhouse_slow_kill,crash_in_snapshot,crash_before_sink_commit,kill",
        flow="all",
        each_once=True,
        sabotage="forget_journeys,redecide",
        rest_s=40.0,
    )

    shows(verdict, "wrong_journeys", "redecided")
    assert not verdict.violations.get("misordered")


def test_what_is_left_behind_or_goes_unsaid_is_found(
    breakable_kafka: Breakable, tmp_path: Path
) -> None:
    """An open transaction, a process, an end without a word, memory."""
    verdict = controlled(
        tmp_path,
        breakable_kafka,
        faults="skew",
        sabotage="leave_open,orphan,silent_exit,hoard",
        more={"AIRSIDE_KAFKA__TRANSACTION_S_MAX": "60"},
    )

    shows(verdict, "open_transactions", "orphans", "unexplained_exit", "memory")
    assert not verdict.violations.get("lost")


def test_an_empty_profile_table_after_a_start_is_found(
    breakable_kafka: Breakable, tmp_path: Path
) -> None:
    """Enrichment and consent would be decided without the profiles that were there."""
    verdict = controlled(
        tmp_path,
        breakable_kafka,
        faults="kill",
        sabotage="empty_table",
        more={"AIRSIDE_KAFKA__TRANSACTION_S_MAX": "60"},
        rest_s=40.0,
    )

    shows(verdict, "truth")
    assert any("T404; expected" in sentence for sentence in verdict.sentences), verdict.sentences
    assert not {"doubled", "wrong_cells", "wrong_facts"} & set(verdict.violations)


@pytest.mark.parametrize(("sabotage", "kind"), [("bloat", "store"), ("held_lock", "locks")])
def test_a_store_that_grows_without_state_and_a_lock_that_stays_are_found(
    breakable_kafka: Breakable, tmp_path: Path, sabotage: str, kind: str
) -> None:
    verdict = controlled(
        tmp_path,
        breakable_kafka,
        faults="skew",
        sabotage=sabotage,
        more={"AIRSIDE_KAFKA__TRANSACTION_S_MAX": "60"},
        rest_s=40.0,
    )

    shows(verdict, kind)
    assert not {"doubled", "wrong_cells", "wrong_facts"} & set(verdict.violations)


def test_a_process_that_waits_for_ever_is_found(breakable_kafka: Breakable, tmp_path: Path) -> None:
    verdict = controlled(
        tmp_path, breakable_kafka, faults="skew", sabotage="hang", commit_age_s_max=8.0, rest_s=30.0
    )

    assert {"silent_stall": 1} == verdict.violations, verdict.sentences


def test_without_locks_a_second_instance_is_found(
    breakable_kafka: Breakable, tmp_path: Path
) -> None:
    verdict = controlled(tmp_path, breakable_kafka, faults="second_instance", sabotage="no_lock")

    shows(verdict, "breach")
