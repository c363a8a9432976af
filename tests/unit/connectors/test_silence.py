"""Which partitions are said to be silent, and what is no sign of that."""

from __future__ import annotations

import pytest

from connectors.kafka.lane_state import Place
from connectors.kafka.silence import SILENT_S, Silence

P, Q = ("t", 0), ("t", 1)
PLACES: dict[Place, int] = {P: 10, Q: 20}
MORE: dict[Place, int] = {P: 15, Q: 20}


def watch(
    silence: Silence, until_s: float, *, since_s: float = 100.0, busy: bool = False
) -> Place | None:
    """Look each half second, with an answer each ten seconds."""
    now_s, found = since_s, None
    while now_s <= until_s and found is None:
        silence.note_look(now_s)
        if (now_s - since_s) % 10.0 == 0.0:
            found = silence.compare(MORE, PLACES.__getitem__, now_s, busy=busy)
        now_s += 0.5
    return found


def test_a_partition_that_stands_before_its_end_is_found_after_a_while() -> None:
    silence = Silence()

    assert watch(silence, 100.0 + SILENT_S - 1.0) is None
    assert P == watch(silence, 100.0 + SILENT_S, since_s=100.0 + SILENT_S)


def test_where_much_else_comes_it_takes_longer() -> None:
    assert watch(Silence(), 100.0 + SILENT_S, busy=True) is None
    assert P == watch(Silence(), 100.0 + 4 * SILENT_S, busy=True)


@pytest.mark.parametrize("reason", ["no answer", "not told", "no look", "paused", "own reasons"])
def test_it_begins_anew_where_there_is_a_reason(reason: str) -> None:
    silence = Silence()
    assert watch(silence, 120.0) is None
    again_s = 130.0
    if reason == "no answer":
        assert silence.compare({}, PLACES.__getitem__, 121.0, busy=False) is None
    elif reason == "not told":
        assert silence.compare({Q: 25}, PLACES.__getitem__, 121.0, busy=False) is None
    elif reason == "no look":
        again_s = 320.0
    elif reason == "paused":
        silence.drop([P])
    else:
        silence.forget()
    if reason != "no look":
        silence.note_look(124.0)
        silence.note_look(128.0)

    assert watch(silence, again_s + SILENT_S - 1.0, since_s=again_s) is None
    assert P == watch(silence, again_s + SILENT_S, since_s=again_s + SILENT_S)


def test_one_that_moves_is_not_silent() -> None:
    silence = Silence()
    for step in range(20):
        now_s = 100.0 + 4.0 * step
        silence.note_look(now_s)
        at = {P: step}
        assert silence.compare({P: 1_000}, at.__getitem__, now_s, busy=False) is None


def test_ends_are_asked_of_those_only_of_which_nothing_came() -> None:
    silence, at = Silence(), dict(PLACES)

    assert [] == silence.standing([P, Q], at.__getitem__)
    at[P] += 1
    assert [Q] == silence.standing([P, Q], at.__getitem__)
    assert [P, Q] == silence.standing([P, Q], at.__getitem__)
