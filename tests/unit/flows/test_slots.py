"""The table of rows by key: what it finds, and what it finds no more."""

from __future__ import annotations

import numpy as np
import pytest

from flows.steps import slots
from flows.steps.slots import NO_ROW, Hashes, Slots, repeated

MASK = (1 << 64) - 1
BACK = pow(slots._FACTOR, -1, 1 << 64)


@pytest.fixture(params=["arrays", "one by one"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "_MANY", 1 if request.param == "arrays" else 1_000_000)
    monkeypatch.setattr(slots, "_REST", 0)
    monkeypatch.setattr(slots, "_PART", 16)


def of_hash(*hashes: int) -> Hashes:
    """The keys with these hashes."""
    return np.array([hashed * BACK & MASK for hashed in hashes], np.uint64)


def table(keys: Hashes) -> Slots:
    found = Slots()
    found.keys.stretch(1_000)
    found.put(keys, np.arange(len(keys)))
    return found


def at_one_place(count: int, hashed: int) -> Hashes:
    """Keys that are all to be at the same place, in a table of any size up to a million places."""
    return of_hash(*(hashed ^ number << 32 for number in range(count)))


def test_each_key_has_its_row_and_others_have_none() -> None:
    held = table(np.array([7, 0, MASK], np.uint64))

    assert [0, 1, 2, NO_ROW] == held.find(np.array([7, 0, MASK, 8], np.uint64)).tolist()
    assert [1, NO_ROW] == [held.find_one(0), held.find_one(8)]
    assert 3 == len(held)
    assert [0, 1, 2] == sorted(held.rows().tolist())


def test_no_key_is_in_an_empty_table_not_even_zero() -> None:
    assert [NO_ROW] == Slots().find(np.zeros(1, np.uint64)).tolist()
    assert NO_ROW == Slots().find_one(0)


def test_of_a_key_that_comes_again_the_last_row_counts() -> None:
    held = table(np.array([7, 5, 7, 7, 5], np.uint64))

    assert [3, 4] == held.find(np.array([7, 5], np.uint64)).tolist()
    assert 2 == len(held)
    held.put(np.array([7], np.uint64), np.array([9]))
    assert 9 == held.find_one(7)
    assert 2 == len(held)


def test_keys_that_differ_in_what_their_place_does_not_tell_are_told_apart() -> None:
    alike = of_hash(2, 3)  # the same place, and the same tag
    held = table(alike[:1])

    assert [0, NO_ROW] == held.find(alike).tolist()
    held.put(alike[1:], np.array([1]))
    assert [0, 1] == held.find(alike).tolist()
    held.drop(alike[:1])
    assert [NO_ROW, 1] == held.find(alike).tolist()


@pytest.mark.parametrize("hashed", [0, MASK, 1 << 63])
def test_what_lies_behind_a_dropped_key_is_found(hashed: int) -> None:
    keys = at_one_place(40, hashed)
    held = table(keys)
    held.drop(keys[:20])

    assert [NO_ROW] * 20 + [*range(20, 40)] == held.find(keys).tolist()
    assert 20 == len(held)
    held.put(keys[:20], np.arange(100, 120))
    assert [*range(100, 120), *range(20, 40)] == held.find(keys).tolist()
    assert 40 == len(held)


def test_a_key_is_dropped_once() -> None:
    held = table(np.array([7, 5, 3], np.uint64))
    held.drop(np.array([7, 7, 8, 5, 7], np.uint64))
    held.drop(np.array([7], np.uint64))

    assert 1 == len(held)
    assert [NO_ROW, NO_ROW, 2] == held.find(np.array([7, 5, 3], np.uint64)).tolist()


def test_nothing_is_lost_while_a_table_grows() -> None:
    keys = np.arange(5_000, dtype=np.uint64)
    held = Slots()
    held.keys.stretch(5_000)
    for first in range(0, 5_000, 37):
        part = keys[first : first + 37]
        held.put(part, np.arange(first, first + len(part)))

    assert [*range(5_000)] == held.find(keys).tolist()
    assert 5_000 <= len(held._entries.all) * slots._USED_MAX


def test_a_table_that_is_filled_and_emptied_again_and_again_stays_as_small() -> None:
    held = Slots()
    held.keys.stretch(200)
    for turn in range(50):
        keys = np.arange(turn * 100, turn * 100 + 100, dtype=np.uint64)
        held.put(keys, np.arange(100) + turn % 2 * 100)
        held.drop(keys - np.uint64(100))
        assert 100 == len(held)
        assert [NO_ROW] * 100 == held.find(keys - np.uint64(100)).tolist()

    assert len(held._entries.all) <= 512


def test_what_comes_more_than_once_is_named() -> None:
    assert {5, 7} == {*repeated(np.array([7, 5, 1, 7, 0, 5, 7], np.uint64)).tolist()}
    assert [] == repeated(np.array([3, 2, 1], np.uint64)).tolist()
    assert [] == repeated(np.array([], np.uint64)).tolist()
