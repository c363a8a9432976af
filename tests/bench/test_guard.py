"""The hot path may not grow: its calls and instructions for each message, against a budget.

When a change makes the path shorter, lower the budget to what it says then, so that it stays.
"""

from __future__ import annotations

import sys
from typing import Any, Final

import pytest

from flows.ingest import make_checker, make_gate
from schemas.blocks import CheckedBlock, RawBlock
from tests.bench.effort import Effort, effort_of, raw_block
from tests.messages import policy, settings

CHECK_MAX: Final = Effort(calls=1.7, instructions=20)
GATE_MAX: Final = Effort(calls=14.2, instructions=267)
# Instructions differ between releases of Python; calls nearly not.
COUNTED_ON: Final = (3, 11)


def check_effort(before: Any = None) -> Effort:
    checker = make_checker(settings(), policy())

    def work(raw: RawBlock) -> None:
        if before is not None:
            before(raw)
        checker.check(raw)

    return effort_of(work, raw_block)


def gate_effort(before: Any = None) -> Effort:
    def work(prepared: tuple[Any, CheckedBlock]) -> None:
        gate, block = prepared
        if before is not None:
            before(block.raw)
        gate.pass_block(block)

    def prepare(messages: int) -> tuple[Any, CheckedBlock]:
        checker, gate = make_checker(settings(), policy()), make_gate(settings(), policy())
        return gate, checker.check(raw_block(messages))

    return effort_of(work, prepare)


def over(found: Effort, budget: Effort) -> dict[str, tuple[float, float]]:
    """What is over its budget: name → (found, budget)."""
    pairs = zip(found._fields, found, budget, strict=True)
    return {
        name: (value, limit)
        for name, value, limit in pairs
        if value > limit and (name == "calls" or sys.version_info[:2] == COUNTED_ON)
    }


def test_checking_a_message_costs_no_more_than_its_budget() -> None:
    assert {} == over(check_effort(), CHECK_MAX)


def test_the_gate_costs_no_more_than_its_budget() -> None:
    assert {} == over(gate_effort(), GATE_MAX)


def one_call_more(raw: RawBlock) -> None:
    for value in raw.values:
        len(value or b"")


def some_instructions_more(raw: RawBlock) -> None:
    total = 0
    for offset in raw.offsets:
        total += offset


@pytest.mark.parametrize(("effort", "budget"), [(check_effort, CHECK_MAX), (gate_effort, GATE_MAX)])
def test_one_call_more_for_each_message_is_over_the_budget(effort: Any, budget: Effort) -> None:
    assert "calls" in over(effort(one_call_more), budget)


@pytest.mark.skipif(sys.version_info[:2] != COUNTED_ON, reason="instructions are those of 3.11")
@pytest.mark.parametrize(("effort", "budget"), [(check_effort, CHECK_MAX), (gate_effort, GATE_MAX)])
def test_a_loop_without_calls_is_over_the_budget_too(effort: Any, budget: Effort) -> None:
    assert "instructions" in over(effort(some_instructions_more), budget)
