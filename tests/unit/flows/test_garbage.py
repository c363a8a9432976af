"""Pauses are used for what is young; what an epoch left is looked at once, after it."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from flows.garbage import EPOCHS, YOUNG_MAX, IdleCollector


class Ring:
    """A cycle: only a look finds that it is garbage."""

    def __init__(self) -> None:
        self.own = self


@pytest.fixture
def looks() -> Iterator[list[int]]:
    """The generations that were looked at, and nothing by Python's own rule meanwhile."""
    found: list[int] = []

    def note(phase: str, told: dict[str, int]) -> None:
        if phase == "stop":
            found.append(told["generation"])

    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    gc.callbacks.append(note)
    yield found
    gc.callbacks.remove(note)
    if was_on:
        gc.enable()


def rings() -> int:
    return sum(isinstance(one, Ring) for one in gc.get_objects())


def test_a_pause_is_used_once_there_is_enough_to_look_at(looks: list[int]) -> None:
    idle = IdleCollector()
    idle.rest()
    assert looks == []
    for _ in range(YOUNG_MAX + 1):
        Ring()
    idle.rest()
    idle.rest()
    assert looks == [0]
    assert not rings()


def test_what_outlived_a_look_is_found_after_its_epoch(looks: list[int]) -> None:
    idle = IdleCollector()
    kept = [Ring() for _ in range(YOUNG_MAX + 1)]
    idle.rest()
    kept.clear()
    idle.rest()
    assert rings()
    idle.end_epoch()
    idle.rest()
    idle.rest()
    assert looks == [0, 1]
    assert not rings()


def test_what_outlived_its_epoch_is_found_after_many(looks: list[int]) -> None:
    idle = IdleCollector()
    kept = [Ring() for _ in range(10)]
    for epoch in range(1, EPOCHS + 1):
        idle.end_epoch()
        idle.rest()
        if epoch == EPOCHS // 2:
            kept.clear()
            assert rings()
    assert looks == [1] * (EPOCHS - 1) + [2]
    assert not rings()
