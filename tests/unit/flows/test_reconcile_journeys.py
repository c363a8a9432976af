"""What facts can tell of a journey, and what they cannot."""

from __future__ import annotations

from typing import Any

import pytest

from flows.journey.acts import NAMES, act_of
from flows.reconcile.journeys import Moving, facts_by_journey
from flows.reconcile.store import OPEN_S

OPENED = "ntf.engagement.opened.v1"
NOW_S = 1_800_000_000


def fact(number: int, *, event_type: str = OPENED, at_ms: int = 1_000) -> tuple[Any, ...]:
    about = (f"evt_{number:08d}", "/app", event_type, at_ms, "", "usr_1", "ntf_1", "", "", "")
    rest = ("", "marketing", "INTERNAL", 1, 0, 0, 0, "")
    return (7, "jrn_1", *about, *rest, NOW_S)


def row(*acts: tuple[int, str]) -> dict[str, dict[str, Any]]:
    at, names = [at for at, _ in acts], [act for _, act in acts]
    return {"jrn_1": {"at": at, "acts": names, "propensity": 0.0}}


HUMAN, MACHINE = (NAMES[act_of(OPENED, machine=machine) or 0] for machine in (False, True))


@pytest.mark.parametrize(
    ("acts", "unsure"),
    [
        ([(1_000, HUMAN)], 0),
        ([(1_000, MACHINE)], 0),
        ([(1_000, HUMAN), (1_000, MACHINE)], 2),
        ([(1_000, MACHINE), (1_000, MACHINE)], 0),
        ([], 1),
    ],
)
def test_which_of_two_at_one_moment_was_the_machines_is_in_no_fact(
    acts: list[tuple[int, str]], unsure: int
) -> None:
    lines = [fact(number) for number in range(len(acts) or 1)]

    found = facts_by_journey(lines, row(*acts))["jrn_1"]

    assert unsure == found.unsure


def test_more_facts_than_acts_of_the_row_are_not_all_sure() -> None:
    found = facts_by_journey([fact(1), fact(2)], row((1_000, MACHINE)))["jrn_1"]

    assert 1 == found.unsure


def test_a_journey_that_went_on_meanwhile_is_no_finding() -> None:
    reads: list[int] = []

    def read_again() -> dict[str, int]:
        reads.append(1)
        return {"grown": 3, "still": 2}

    moving = Moving(NOW_S, {"grown": 2, "still": 2}, read_again)
    old_ms = (NOW_S - OPEN_S) * 1_000

    told = [moving.is_one(name, old_ms) for name in ("grown", "still", "unknown")]
    assert [True, False, False] == told
    assert [1] == reads
    assert moving.is_one("still", old_ms + 1_000)
