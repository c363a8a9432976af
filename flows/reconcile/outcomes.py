"""Compare the rows of `outcomes` with the facts that they come from."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from math import isclose
from typing import Any, Final, NamedTuple

from flows.journey.acts import NAMES
from flows.journey.outcomes import OBSERVABLE, SHARED, direct_share, id_of, outcome_rows, result_of
from flows.journey.story import Told
from flows.journey.touches import DIRECT, FIRST, LAST, LINEAR

_MODELS: Final = (LAST, FIRST, LINEAR)

Line = tuple[Any, ...]


class Wrong(NamedTuple):
    """What differs in a journey. Shapes: `rows` are there; `right` are those to write instead."""

    journey: str
    what: str
    rows: int = 0
    right: Sequence[Line] = ()
    too_many: bool = False
    newest_ms: int = 0


def wrong_outcomes(
    facts: Mapping[str, Sequence[Told]], lines: Sequence[Line]
) -> tuple[int, list[Wrong]]:
    """How many outcomes there are by the facts, and which of them have other rows than they should.

    A reaction has one row, which its fact tells; a result has shares under each model that add up
    to 1, and whom it is put down to is known to the flow alone.
    """
    rows: dict[str, list[Line]] = defaultdict(list)
    for line in lines:
        rows[line[0]].append(line)
    compared, wrong = 0, []
    for journey in sorted(facts):
        for told in facts[journey]:
            if OBSERVABLE >> told.act & 1:
                compared += 1
                found = _judge(told, rows.pop(id_of(told.event), []))
                wrong += [found] if found else []
    for others in rows.values():
        newest_ms = max(int(row[4]) for row in others)
        wrong.append(
            Wrong(others[0][5], "no fact", len(others), too_many=True, newest_ms=newest_ms)
        )
    return compared, wrong


def _judge(told: Told, rows: Sequence[Line]) -> Wrong | None:
    result = result_of(told)
    shared = SHARED >> told.act & 1
    right = () if shared else outcome_rows(told.subject, [(result, [direct_share(result)], 0)], 0)
    if not rows:
        return Wrong(told.journey, f"no row of {NAMES[told.act]}", 0, right)
    about = (result.kind, result.at_ms, result.journey, result.amount_minor, result.currency)
    what = []
    if any((row[3], int(row[4]), *row[5:8]) != about for row in rows):
        what.append(NAMES[told.act])
    models = _MODELS if shared else (DIRECT,)
    weights = {model: sum(row[8] for row in rows if row[1] == model) for model in models}
    if {row[1] for row in rows} != set(models) or not all(
        isclose(weight, 1.0, abs_tol=1e-9) for weight in weights.values()
    ):
        what.append("weight")
    return Wrong(told.journey, ", ".join(what), len(rows), right) if what else None
