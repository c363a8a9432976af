"""The check of journeys and outcomes: silent on what is true, and loud on each kind of fault."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

import pytest

from flows.simulate import World
from flows.simulate.copies import Copy
from flows.verify import ROUTED_TOPICS
from flows.verify_journeys import (
    JOURNEYS_SQL,
    OUTCOMES_SQL,
    check_journeys,
    check_outcomes,
    check_records,
    observed_places,
)
from schemas.observed import OUTCOMES_TOPIC
from tests.journeys_run import JourneyRun

WINDOW_MS = 604_800_000


@pytest.fixture(scope="module")
def run() -> JourneyRun:
    found = JourneyRun(World(5, total=2_500, end_ms=1_800_000_000_000, people=120))
    found.follow(found.as_read(Random(5)))
    return found


def names_in(sql: str) -> list[str]:
    columns = sql.removeprefix("SELECT ").split(" FROM ")[0]
    columns = columns.replace("arrayMap(one -> toUnixTimestamp64Milli(one), at)", "at")
    words = [word.strip() for word in columns.replace("\n", " ").split(",")]
    return [word.removeprefix("toUnixTimestamp64Milli(").removesuffix(")") for word in words]


class Read:
    """Tables as read from ClickHouse, with some changes."""

    def __init__(self, run: JourneyRun) -> None:
        self.rows = {
            JOURNEYS_SQL: [dict(row) for row in run.journeys.rows.values()],
            OUTCOMES_SQL: [dict(row) for row in run.outcomes.rows.values()],
        }

    def __call__(self, sql: str) -> Iterator[tuple[Any, ...]]:
        names = names_in(sql)
        return iter([tuple(row[name] for name in names) for row in self.rows[sql]])


def faults(run: JourneyRun, read: Read) -> list[tuple[str, str]]:
    said: list[tuple[str, str]] = []

    def say(where: str, what: str) -> None:
        said.append((where, what))

    check_journeys(run.truth, read, say)
    check_outcomes(run.truth, read, say, window_ms=WINDOW_MS)
    return said


def test_what_is_true_has_no_fault(run: JourneyRun) -> None:
    assert [] == faults(run, Read(run))


@pytest.mark.parametrize(
    ("name", "value"),
    [("n", 99), ("state", "open?"), ("amount_minor", -1), ("acts", []), ("arm", "z"), ("hops", 9)],
)
def test_a_wrong_field_of_one_journey_is_one_fault(run: JourneyRun, name: str, value: Any) -> None:
    read = Read(run)
    row = read.rows[JOURNEYS_SQL][7]
    row[name] = value
    if name == "acts":
        row["at"] = []

    [(where, what)] = faults(run, read)
    assert ("journeys", True) == (where, what.endswith(" differ"))


def test_a_row_too_many_and_a_row_too_few_are_faults(run: JourneyRun) -> None:
    read = Read(run)
    read.rows[JOURNEYS_SQL][3] = read.rows[JOURNEYS_SQL][4]
    read.rows[OUTCOMES_SQL].pop()

    said = [what for _, what in faults(run, read)]
    assert [
        "a row is missing or too many",
        "found a row too many",
        "no row; expected one",
    ] == sorted(said)


def test_a_share_that_went_to_another_campaign_is_a_fault(run: JourneyRun) -> None:
    read = Read(run)
    row = next(row for row in read.rows[OUTCOMES_SQL] if row["model"] == "last_touch")
    row["to_campaign"] = "another"

    assert 2 == len(faults(run, read))


def test_records_are_compared_with_the_outcomes_that_may_be_published(run: JourneyRun) -> None:
    said: list[str] = []
    wanted = observed_places(run.truth, ROUTED_TOPICS[:2])
    copies = [
        Copy(OUTCOMES_TOPIC, record.origin[:3], 0)
        for record in run.records.values()
        if record.topic == OUTCOMES_TOPIC
    ]

    assert 0 == check_records(wanted, copies, lambda _, what: said.append(what))
    assert len(copies) == len(wanted) > 100
    assert [] == said
    assert 1 == check_records(wanted, [*copies[1:], copies[5]], lambda _, what: said.append(what))
    assert ["no record of an outcome; expected one"] == said
