"""Turns: one lane gives at a time, none is left behind, and nobody waits for one that is gone."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from connectors.kafka.turns import Turns


def ask_all(turns: Turns, lanes: list[int], *, busy: set[int]) -> list[int]:
    """The lanes that gave in one round; only the busy ones have something."""
    gave = []
    for lane in lanes:
        if turns.ask(lane) and lane in busy:
            turns.give()
            gave.append(lane)
    return gave


def test_lanes_that_all_have_something_give_one_a_round_in_turn() -> None:
    turns = Turns()

    rounds = [ask_all(turns, [0, 1, 2, 3], busy={0, 1, 2, 3}) for _ in range(8)]

    assert [[0], [1], [2], [3], [0], [1], [2], [3]] == rounds


def test_a_lane_without_anything_gives_its_turn_away_at_once() -> None:
    turns = Turns()

    rounds = [ask_all(turns, [0, 1, 2, 3], busy={1, 3}) for _ in range(4)]

    assert [[1], [3], [1], [3]] == rounds


def test_one_lane_gives_in_every_round() -> None:
    turns = Turns()

    assert [[2], [2], [2]] == [ask_all(turns, [2], busy={2}) for _ in range(3)]


def test_nobody_waits_for_a_lane_that_asks_no_more() -> None:
    turns = Turns()
    assert [0] == ask_all(turns, [0, 1], busy={0, 1})

    rounds = [ask_all(turns, [0], busy={0}) for _ in range(3)]

    assert [[], [0], [0]] == rounds  # one round goes by until that is seen


@given(st.lists(st.sets(st.integers(0, 4)), min_size=1, max_size=60))
def test_a_lane_that_keeps_asking_waits_for_one_block_of_each_other(asked: list[set[int]]) -> None:
    """Lane 2 asks in each round and always has something; the others come and go."""
    turns = Turns()
    since: list[int] = []
    for others in asked:
        gave = ask_all(turns, sorted(others | {2}), busy={0, 1, 2, 3, 4})
        assert len(gave) <= 1
        since = [] if gave == [2] else [*since, *gave]
        assert len(set(since)) == len(since)


def test_it_is_rest_when_nobody_gave_since_a_lane_asked_before() -> None:
    turns, rests = Turns(), []
    for busy in ({1}, set[int](), {0, 1}, set[int](), set[int](), {1}, set[int]()):
        for lane in (0, 1):
            if turns.ask(lane) and lane in busy:
                turns.give()
        rests.append(turns.rests)

    assert [False, False, False, False, True, True, False] == rests


def test_a_quiet_lane_that_asks_out_of_step_is_no_rest_while_another_gives() -> None:
    turns, rests = Turns(), []
    for _ in range(5):
        turns.ask(2)
        rests.append(turns.rests)
        if turns.ask(1):
            turns.give()

    assert rests == [False] * 5
