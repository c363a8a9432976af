"""Judging policies on a log: names and files of policies, what they draw, what is told."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from flows.__main__ import make_parser
from flows.evaluate import queries
from flows.evaluate.job import Wish, run_evaluation, to_decisions
from flows.evaluate.policies import read_policies, read_policy
from flows.evaluate.show import to_json, to_table, warnings_of
from flows.model.evidence.off_policy import Decisions, best_hours, evaluate, uniform_target
from flows.model.evidence.slots import SLOTS
from schemas.errors import ConfigError

EVENING = 18


def bitmap(*slots: int) -> str:
    bits = np.zeros(SLOTS, np.uint8)
    bits[list(slots)] = 1
    return np.packbits(bits, bitorder="little").tobytes().hex().upper()


def row(subject: str, slot: int, responded: int, *allowed: int, best: int = 255) -> tuple[Any, ...]:
    return (subject, slot, 1 / len(allowed), bitmap(*allowed), best, responded)


def log() -> list[tuple[Any, ...]]:
    """Half of the picks at 9, half at 18; only those at 18 are answered."""
    return [row(f"usr_{n}", (9, 18)[n % 2], n % 2, 9, 18, best=18) for n in range(1_000)]


class FakeLog:
    """Answers the two queries from lists, and keeps what was asked."""

    def __init__(self, rows: list[tuple[Any, ...]], hours: list[tuple[Any, ...]]) -> None:
        self.tables = {queries.DECISIONS: rows, queries.HOURS: hours}
        self.asked: list[tuple[str, Mapping[str, Any]]] = []

    def __call__(
        self, query: str, parameters: Mapping[str, Any], _name: str
    ) -> list[tuple[Any, ...]]:
        self.asked.append((query, parameters))
        return self.tables[query][: parameters["rows_max"]]


def decisions(rows: list[tuple[Any, ...]]) -> Decisions:
    return to_decisions(rows, {})


def odds_of(name: str, rows: list[tuple[Any, ...]], hours: Any = 0) -> list[list[float]]:
    """The odds of the allowed slots of each row."""
    found = decisions(rows)
    odds = read_policy(name, best_hours=lambda: hours)(found, slice(None))
    assert np.allclose(1.0, odds.sum(axis=1))
    return [list(odds[place, found.allowed[place]]) for place in range(len(found))]


def test_uniform_draws_evenly_from_what_is_allowed() -> None:
    assert [[0.25] * 4] == odds_of("uniform", [row("usr_a", 9, 0, 9, 12, 18, 33)])


def test_a_fixed_hour_takes_the_nearest_that_is_allowed_also_over_midnight() -> None:
    rows = [row("usr_a", 9, 0, 9, 18, 42), row("usr_b", 1, 0, 1, 12), row("usr_c", 7, 0, 7, 12)]

    assert [[0, 0.5, 0.5], [0, 1], [0, 1]] == odds_of("fixed:18", rows)
    assert [[1, 0], [1, 0]] == odds_of("fixed:23", [rows[1], row("usr_d", 2, 0, 2, 12)])


def test_the_model_without_exploration_takes_what_it_favoured() -> None:
    rows = [row("usr_a", 9, 0, 9, 18, best=18), row("usr_b", 9, 0, 9, 18)]

    assert [[0, 1], [0.5, 0.5]] == odds_of("model", rows)


def test_what_was_picked_counts_as_allowed() -> None:
    assert decisions([row("usr_a", 100, 0, 9)]).allowed[0].nonzero()[0].tolist() == [9, 100]


def test_each_persons_best_hour_is_its_own_and_a_strangers_that_of_all() -> None:
    tries, gains = np.zeros((3, 24)), np.zeros((3, 24))
    tries[0, 8], gains[0, 8] = 10, 5
    tries[1, 20], gains[1, 20] = 100, 60
    tries[0, 20], gains[0, 20] = 10, 0

    assert [8, 20, 20] == best_hours(tries, gains).tolist()


@pytest.mark.parametrize("name", ["fixed:24", "fixed:", "best", "fixed:-1", "Uniform"])
def test_an_unknown_policy_is_named_before_the_log_is_read(name: str) -> None:
    fake = FakeLog(log(), [])

    with pytest.raises(ConfigError, match=f'could not judge policy "{name}"'):
        run_evaluation(fake, Wish((name,), since_ms=0))
    assert [] == fake.asked


def test_a_log_with_nothing_to_judge_by_says_so() -> None:
    with pytest.raises(ConfigError, match="found no decisions with an outcome in this span"):
        run_evaluation(FakeLog([], []), Wish(("uniform",), since_ms=0))


def test_a_file_gives_weights_by_hour(tmp_path: Path) -> None:
    path = tmp_path / "policies.yaml"
    path.write_text("policies:\n  - {name: evenings, hours: {18: 3, 9: 1}}\n")
    (name, target), *_ = read_policies(path).items()
    rows = decisions([row("usr_a", 9, 0, 9, 12, 18, 42), row("usr_b", 1, 0, 1, 2)])

    assert "evenings" == name
    assert [1 / 7, 3 / 7, 3 / 7] == pytest.approx(target(rows, slice(None))[0][[9, 18, 42]])
    assert [0.5, 0.5] == target(rows, slice(None))[1][[1, 2]].tolist()


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("policies: []", "too short at policies"),
        ("policies: [{name: a, hours: {24: 1}}]", "less than at policies"),
        ("policies: [{name: a, hours: {1: -1}}]", "greater than equal at policies"),
        ("{", "no YAML"),
    ],
)
def test_a_wrong_file_is_told_by_place_and_not_by_value(
    tmp_path: Path, text: str, fault: str
) -> None:
    path = tmp_path / "policies.yaml"
    path.write_text(text)

    with pytest.raises(ConfigError, match=fault):
        read_policies(path)


def test_the_truth_comes_out_where_it_is_known() -> None:
    fake = FakeLog(log(), [("usr_1", 9, 50, 25), ("usr_2", 18, 50, 40)])
    wish = Wish(("fixed:18", "fixed:9", "uniform", "model", "best-hour"), since_ms=7)
    outcome = run_evaluation(fake, wish)
    values = {one.policy: round(one.snips.value, 6) for one in outcome.evaluations}

    assert {"fixed:18": 1.0, "fixed:9": 0.0, "uniform": 0.5, "model": 1.0} == {
        name: value for name, value in values.items() if name != "best-hour"
    }
    assert 0.5 < values["best-hour"] <= 1.0
    assert [7, 7] == [parameters["since_ms"] for _, parameters in fake.asked]
    assert () == outcome.evaluations[0].warnings


def test_three_decisions_are_too_few_and_the_reader_is_told() -> None:
    outcome = run_evaluation(FakeLog(log()[:3], []), Wish(("fixed:18",), since_ms=0, rows_max=3))
    lines = warnings_of(outcome)

    assert outcome.cut
    assert "fixed:18: only 1 effective decisions of 200 at least" in lines[0]
    assert "the newest decisions only" in lines[-1]
    told = orjson.loads(to_json(outcome))
    assert 3 == told["policies"][0]["decisions"]
    assert 2 == to_table(outcome).row_count


def test_the_interval_is_over_people_and_not_over_decisions() -> None:
    """A thousand decisions of ten people tell less than those of a thousand."""
    many = decisions(log())
    few = Decisions(
        many.subjects % 10, many.slots, many.odds, many.allowed, many.rewards, many.best
    )
    narrow, wide = (evaluate("uniform", one, uniform_target).logged for one in (many, few))

    assert narrow.value == wide.value
    assert wide.high - wide.low > 3 * (narrow.high - narrow.low)


def test_a_log_with_odds_of_nothing_is_refused() -> None:
    found = decisions([("usr_a", 9, 0.0, bitmap(9), 255, 1)])

    with pytest.raises(ValueError, match="each with odds above 0"):
        evaluate("uniform", found, uniform_target)


def test_the_command_line_takes_policies_and_a_span() -> None:
    options = make_parser().parse_args(
        ["timing", "evaluate", "--policy", "uniform", "--policy", "fixed:18", "--since", "7d"]
    )

    assert (["uniform", "fixed:18"], 604_800) == (options.policy, options.since)
