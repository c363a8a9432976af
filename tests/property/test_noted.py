"""Entries that are told by their changes are the same entries, in the same order."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from flows.steps.noted import Changes, Noted

Act = Callable[[Noted[int, str]], object]

keys = st.integers(0, 8) | st.just((1 << 64) - 1)
acts = st.one_of(
    st.builds(lambda key, value: lambda held: held.put(key, value), keys, st.text(max_size=2)),
    st.builds(lambda key: lambda held: held.drop(key), keys),
)
epochs = st.lists(st.lists(acts, max_size=12), max_size=6)


@given(epochs, st.integers(0, 6))
def test_changes_make_what_was_saved_into_what_is(epochs: list[list[Act]], watched: int) -> None:
    live: Noted[int, str] = Noted()
    saved: Noted[int, str] = Noted()
    for number, epoch in enumerate(epochs):
        if number == watched:
            live.watch()
            saved.fill(list(live), list(live.values()))
        for act in epoch:
            act(live)
        told = live.take_changes()
        if number < watched:
            assert told is None
            continue
        before = list(saved.items())
        if told is not None:
            saved.apply(msgspec.msgpack.decode(msgspec.msgpack.encode(told), type=Changes))
        assert list(live.items()) == list(saved.items())
        assert told is not None or before == list(live.items())


def test_what_is_told_is_what_changed() -> None:
    held: Noted[str, int] = Noted()
    held.fill(["a", "b", "c"], [1, 2, 3])
    held.watch()
    held.put("b", 5)
    held.put("d", 4)
    held.drop("a")
    held.put("e", 6)
    held.drop("e")

    assert held.take_changes() == (["a", "e"], ["b", "d"], [5, 4])
    assert held.take_changes() is None
    assert [*held] == ["b", "c", "d"]
    assert held.drop("nobody") is None
    assert held.take_changes() is None
