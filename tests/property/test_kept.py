"""A memory that is kept in a journal is, after any crash, what a memory without one is."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.journal import Journals
from flows.steps.deduplicate import Memory
from flows.steps.keep import Kept
from schemas.errors import PermanentError

TTL_MS = 600_000
MINUTE_MS = 60_000

Act = Callable[[Memory], object]

events = st.integers(0, 30)
minutes = st.integers(0, 60)


def see(event: int, source: int, minute: int) -> Act:
    at_ms = minute * MINUTE_MS
    return lambda held: held.see(event=event, source=source, content=event, purpose=1, now_ms=at_ms)


def remember(found: list[int], minute: int) -> Act:
    size = len(found)

    def act(held: Memory) -> None:
        fresh = [event + 1_000 * (1 + minute) for event in found]
        held.remember_all(
            keys=fresh,
            events=fresh,
            contents=found,
            purposes=[2] * size,
            at_ms=[minute * MINUTE_MS + n for n in range(size)],
        )

    return act


def forget(minute: int) -> Act:
    return lambda held: held.forget_before(minute * MINUTE_MS)


acts = st.one_of(
    st.builds(see, events, st.integers(1, 2), minutes),
    st.builds(remember, st.lists(events, unique=True, max_size=5), minutes),
    st.builds(forget, minutes),
)
epochs = st.lists(st.tuples(st.lists(acts, max_size=8), st.booleans()), max_size=8)


@given(epochs)
def test_after_lost_epochs_a_kept_memory_is_what_was_saved(
    tmp_path_factory: pytest.TempPathFactory, epochs: list[tuple[list[Act], bool]]
) -> None:
    journals = Journals(tmp_path_factory.mktemp("journals"))
    plain, kept = Memory(TTL_MS, 20), Memory(TTL_MS, 20)
    part = Kept(kept)
    part.keep_in(journals.open)
    part.keep_as("gate-000")
    saved, inline = part.dump(), plain.dump()
    for done, is_durable in epochs:
        for act in done:
            act(plain)
            act(kept)
        assert plain.dump() == kept.dump()
        whole, mark = plain.dump(), part.dump()
        if is_durable:
            saved, inline = mark, whole
            continue
        plain, kept = Memory(TTL_MS, 20), Memory(TTL_MS, 20)
        plain.load(inline)
        part = Kept(kept)
        part.keep_in(journals.open)
        part.load(msgspec.msgpack.decode(msgspec.msgpack.encode(saved)))
        assert plain.dump() == kept.dump()


def test_what_is_saved_grows_with_what_changed_and_not_with_what_is_remembered(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("journals")
    held = Memory(TTL_MS, 1_000_000)
    part = Kept(held)
    part.keep_in(Journals(folder).open)
    part.keep_as("gate-000")
    remember(list(range(50_000)), 1)(held)
    marks = [part.dump()["journal"]]
    for epoch in range(4):
        remember(list(range(10)), 2 + epoch)(held)
        marks.append(part.dump()["journal"])

    assert marks[0][2] > 50_000 * 60
    grown = {later[2] - earlier[2] for earlier, later in pairwise(marks)}
    assert 1 == len(grown)
    assert max(grown) < 10 * 60


def test_a_state_in_a_journal_is_refused_where_there_are_none(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    part = Kept(Memory(TTL_MS, 20))
    part.keep_in(Journals(tmp_path_factory.mktemp("journals")).open)
    part.keep_as("gate-000")

    with pytest.raises(PermanentError, match="found no folder of journals here"):
        Kept(Memory(TTL_MS, 20)).load(part.dump())


def test_what_went_with_its_time_is_gone_from_the_journal_after_a_day(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """A restart does not make it younger."""
    journals = Journals(tmp_path_factory.mktemp("journals"))
    now_s = [1_000.0]
    held = Memory(TTL_MS, 1_000_000)
    part = Kept(held, now_s=lambda: now_s[0])
    part.keep_in(journals.open)
    part.keep_as("gate-000")
    numbers = []
    for hours in (0, 1, 19, 24, 25, 49):
        now_s[0] = 1_000.0 + hours * 3_600
        remember([hours], hours)(held)
        state = part.dump()
        numbers.append(state["journal"][1])
        held = Memory(TTL_MS, 1_000_000)
        part = Kept(held, now_s=lambda: now_s[0])
        part.keep_in(journals.open)
        part.load(state)
    assert numbers == [1, 1, 1, 2, 2, 3]
    now_s[0] = 0.0  # a clock that was ahead before
    assert part.dump()["journal"][1] == 4
