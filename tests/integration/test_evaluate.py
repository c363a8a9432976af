"""Evaluation and experiments on a running ClickHouse: what is written is what is judged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest
from clickhouse_connect.driver.client import Client

from connectors.clickhouse.client import ClickHouseAddress, connect
from connectors.clickhouse.reader import read_rows
from connectors.clickhouse.writer import TableWriter
from flows.evaluate.job import Wish, run_evaluation
from flows.model.evidence.compare import Plan, State, subject_sums
from flows.model.evidence.experiment import Experiment
from flows.model.evidence.gather import Evidence
from flows.model.evidence.slots import SLOTS
from schemas.blocks import Rows
from tests.messages import NOW_MS

SINCE_MS = NOW_MS - 86_400_000
DAYS = NOW_MS // 86_400_000


@pytest.fixture
def client(clickhouse_tables: ClickHouseAddress) -> Iterator[Client]:
    opened = connect(clickhouse_tables)
    yield opened
    opened.close()


def write(client: Client, *parts: Rows) -> None:
    writer = TableWriter(client)
    for rows in parts:
        writer.add(rows)
    writer.flush()


def decision_rows(count: int, *, at_ms: int, arm: str = "optimised", first: int = 0) -> Rows:
    """Picks at 9 and 18 by turns, both allowed, 18 favoured."""
    bits = np.zeros(SLOTS, np.uint8)
    bits[[9, 18]] = 1
    numbers = range(first, first + count)
    odds = [{"slot": 9, "propensity": 0.5}, {"slot": 18, "propensity": 0.5 + 1e-9}]
    same: dict[str, Any] = {
        "requested_at": at_ms,
        "decided_at": at_ms,
        "chosen_at": at_ms,
        "journey": "jrn_1",
        "campaign": "spring",
        "channel": "push",
        "arm": arm,
        "propensity": 0.5,
        "allowed": np.packbits(bits, bitorder="little").tobytes(),
        "alternatives": odds,
        "score": 0.1,
        "reason": "best_time",
        "model": "classes",
        "model_version": "1",
        "policy": 7,
        "expires_at": DAYS + 100,
        "ver": 1,
    }
    columns = {name: [value] * count for name, value in same.items()}
    columns["decision_id"] = [f"dec_{n:06d}" for n in numbers]
    columns["event_id"] = [f"evt_{n:06d}" for n in numbers]
    columns["subject"] = [f"usr_{n:06d}" for n in numbers]
    columns["chosen_slot"] = [(9, 18)[n % 2] for n in numbers]
    return Rows("decisions", count, columns)


def outcome_rows(
    count: int, *, at_ms: int, responded: Mapping[int, int], ver: int, first: int = 0
) -> Rows:
    numbers = range(first, first + count)
    same: dict[str, Any] = {
        "requested_at": at_ms,
        "campaign": "spring",
        "responded_at": 0,
        "corrected": int(ver > 1),
        "expires_at": DAYS + 100,
        "ver": ver,
    }
    columns = {name: [value] * count for name, value in same.items()}
    columns["decision_id"] = [f"dec_{n:06d}" for n in numbers]
    columns["subject"] = [f"usr_{n:06d}" for n in numbers]
    columns["responded"] = [responded[n % 2] for n in numbers]
    return Rows("decision_outcomes", count, columns)


def judged(client: Client, *names: str, campaign: str = "") -> Mapping[str, tuple[float, int]]:
    def read(query: str, parameters: Mapping[str, Any], name: str) -> list[tuple[Any, ...]]:
        return read_rows(client, query, parameters, name=name)

    outcome = run_evaluation(read, Wish(names, since_ms=SINCE_MS, campaign=campaign))
    return {one.policy: (one.snips.value, one.decisions) for one in outcome.evaluations}


def test_policies_are_judged_on_the_final_outcome_of_each_decision(client: Client) -> None:
    """Negatives first, then late responses to sends at 18; a repeat changes nothing."""
    parts = (
        decision_rows(1_000, at_ms=NOW_MS),
        outcome_rows(1_000, at_ms=NOW_MS, responded={0: 0, 1: 0}, ver=1),
    )
    late = outcome_rows(1_000, at_ms=NOW_MS, responded={0: 0, 1: 1}, ver=2)
    write(client, *parts, late)
    write(client, *parts)

    assert {"fixed:18": (1.0, 1_000), "model": (1.0, 1_000), "uniform": (0.5, 1_000)} == judged(
        client, "fixed:18", "model", "uniform"
    )


def test_the_holdout_the_past_and_other_campaigns_are_left_out(client: Client) -> None:
    old_ms = SINCE_MS - 1
    write(
        client,
        decision_rows(10, at_ms=NOW_MS),
        outcome_rows(20, at_ms=NOW_MS, responded={0: 0, 1: 1}, ver=2),
        decision_rows(10, at_ms=NOW_MS, arm="holdout", first=10),
        decision_rows(10, at_ms=old_ms, first=20),
        outcome_rows(10, at_ms=old_ms, responded={0: 1, 1: 0}, ver=2, first=20),
    )

    assert {"fixed:18": (1.0, 10)} == judged(client, "fixed:18", campaign="spring")
    # What people answered before the span, and only that, says which hour is best.
    assert {"best-hour": (0.0, 10)} == judged(client, "best-hour")


def test_an_experiment_and_its_results_are_rows_that_replace_themselves(client: Client) -> None:
    evidence = Evidence.empty(16)
    arms = np.arange(4_000) % 2
    answers = (np.arange(4_000) % 20 < np.where(arms == 0, 6, 2)).astype(float)
    evidence.arms = subject_sums(arms, np.ones(4_000), answers, answers)
    evidence.assigned = evidence.arms[:, 0].copy()
    experiment = Experiment("spring", Plan(holdout_share=0.5), started_ms=NOW_MS)
    early = Evidence.empty(16)
    for sums, at_ms in ((early, NOW_MS), (evidence, NOW_MS + 5_000), (evidence, NOW_MS + 5_000)):
        experiment, result = experiment.evaluate(sums, at_ms=at_ms)
        write(client, experiment.to_rows(), result.to_rows())

    assert State.EFFECT_FOUND == experiment.state
    found = client.query("SELECT experiment, state FROM experiments FINAL").result_rows
    assert [("spring", "effect_found")] == list(found)
    results = client.query(
        "SELECT state, low IS NULL, sends_needed, length(slots), optimised_sends"
        " FROM experiment_results FINAL ORDER BY at"
    ).result_rows
    assert [("collecting", 1, None, 16, 0), ("effect_found", 0, 0, 16, 2_000)] == list(results)
