"""The truth and the gate agree to the message: two independent ways to the same numbers."""

from __future__ import annotations

from itertools import permutations
from random import Random

import pytest

from flows.ingest import STREAMS
from flows.simulate.world import World
from flows.verify import verify
from schemas.codes import CODES
from tests.unit.flows.memory_run import END_MS, MemoryRun, make_settings

UNREACHED = {"T503"}  # needs a key that all tickets are signed with


@pytest.mark.parametrize("seed", range(10))
def test_the_truth_equals_what_the_gates_decide(seed: int) -> None:
    world = World(seed, total=6_000, end_ms=END_MS + seed * 7_654_321)
    run = MemoryRun(world)
    run.pass_through(run.as_read(Random(seed)))

    report = verify(run.truth, run.tables, copies=run.copies)

    assert () == report.sentences
    assert 0 == report.mismatches
    assert 0 == report.republished
    assert 6_000 == report.produced == sum(report.doors.values())
    assert report.facts == report.rollup_total == report.doors["routed"]


@pytest.mark.parametrize("topics", list(permutations(STREAMS)))
def test_the_truth_holds_in_whatever_order_topics_are_read(topics: tuple[str, ...]) -> None:
    run = MemoryRun(
        World(3, total=5_000, end_ms=END_MS), settings=make_settings(duplicate_s_max=25_200)
    )
    run.pass_through(run.topic_by_topic(topics))

    report = verify(run.truth, run.tables, copies=run.copies)

    assert () == report.sentences


def test_every_code_that_a_message_can_get_is_reached() -> None:
    run = MemoryRun(World(5, total=5_000, end_ms=END_MS))
    warnings = {code for fact in run.truth.facts.values() for code in fact.warnings}

    assert set(CODES) - UNREACHED == {*run.truth.codes(), *warnings}
