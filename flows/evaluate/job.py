"""Read the decision log, and judge policies on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from flows.evaluate import queries
from flows.evaluate.policies import read_policies, read_policy
from flows.model.evidence.off_policy import (
    Decisions,
    Evaluation,
    Target,
    best_hours,
    evaluate,
)
from flows.model.evidence.slots import SLOTS
from schemas.errors import ConfigError

ROWS_MAX: Final = 1_000_000
"""Decisions that one evaluation holds, about 400 bytes each; the newest are taken."""

Read = Callable[[str, Mapping[str, Any], str], list[tuple[Any, ...]]]
"""Gives the rows of a query with its parameters; the last word names them in errors."""


class Wish(msgspec.Struct, frozen=True):
    """What a person asks for. Units: milliseconds since 1970; an empty campaign means all."""

    policies: tuple[str, ...]
    since_ms: int
    campaign: str = ""
    file: Path | None = None
    rows_max: int = ROWS_MAX


class Outcome(msgspec.Struct, frozen=True):
    """All that was judged. `cut` tells that older decisions of the span were left out."""

    since_ms: int
    campaign: str
    cut: bool
    evaluations: tuple[Evaluation, ...]


def run_evaluation(read: Read, wish: Wish) -> Outcome:
    """Judge each policy on the same decisions.

    Errors: ConfigError for an unknown policy, or for a span without decisions to judge by.
    """
    named = {} if wish.file is None else read_policies(wish.file)
    bounds = {"since_ms": wish.since_ms, "campaign": wish.campaign, "rows_max": wish.rows_max}
    rows: list[tuple[Any, ...]] = []
    people: dict[str, int] = {}

    def hours() -> Any:
        return _hours_before(read(queries.HOURS, bounds, "decisions"), decisions, people)

    # Names are checked before the log is read: a slip costs nothing then.
    for name in wish.policies:
        read_policy(name, best_hours=lambda: 0)
    rows = read(queries.DECISIONS, bounds, "decisions")
    if not rows:
        raise ConfigError(
            do="judge",
            kind="policies",
            found="no decisions with an outcome in this span",
            expected="rows in tables decisions and decision_outcomes",
            hint="give a longer --since, or another --campaign",
        )
    decisions = to_decisions(rows, people)
    targets: dict[str, Target] = {
        **{name: read_policy(name, best_hours=hours) for name in wish.policies},
        **named,
    }
    return Outcome(
        since_ms=wish.since_ms,
        campaign=wish.campaign,
        cut=len(rows) == wish.rows_max,
        evaluations=tuple(evaluate(name, decisions, one) for name, one in targets.items()),
    )


def to_decisions(rows: Sequence[tuple[Any, ...]], people: dict[str, int]) -> Decisions:
    """Columns of the rows of `queries.DECISIONS`; `people` gets a number for each subject."""
    subjects, slots, odds, allowed, best, responded = zip(*rows, strict=True)
    numbers = [people.setdefault(subject, len(people)) for subject in subjects]
    bits = np.frombuffer(bytes.fromhex("".join(allowed)), np.uint8).reshape(len(rows), -1)
    open_slots = np.unpackbits(bits, axis=1, bitorder="little")[:, :SLOTS].astype(np.bool_)
    picked = np.array(slots, np.intp)
    # What was picked was allowed, whatever the bits say: a policy must have somewhere to go.
    open_slots[np.arange(len(rows)), picked] = True
    favoured = np.array(best, np.intp)
    return Decisions(
        subjects=np.array(numbers, np.intp),
        slots=picked,
        odds=np.array(odds, np.float64),
        allowed=open_slots,
        rewards=np.array(responded, np.float64),
        best=np.where(favoured < SLOTS, favoured, -1),
    )


def _hours_before(
    rows: Sequence[tuple[Any, ...]], decisions: Decisions, people: Mapping[str, int]
) -> Any:
    """Each decision's hour, from what its person answered before; strangers get the common one."""
    strangers = len(people)
    tries, gains = np.zeros((strangers + 1, 24)), np.zeros((strangers + 1, 24))
    for subject, hour, sent, responded in rows:
        place = people.get(subject, strangers)
        tries[place, hour] += sent
        gains[place, hour] += responded
    return best_hours(tries, gains)[decisions.subjects]
