"""The memory of accepted events does what the same memory in plain dicts does, and saves the same.

Keys are few, and chosen so that they meet at the same places of the tables.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any, Final

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.steps import slots
from flows.steps.deduplicate import Memory, Sight
from schemas import few

MASK: Final = (1 << 64) - 1
TTL_MS: Final = 900_000
ENTRIES_MAX: Final = 12
BUCKET_MS: Final = 600_000
STEP_MS: Final = 150_000
ENTRY: Final = (np.uint64, np.uint64, np.uint64, np.uint16, np.int64)


class Plain:
    """The same in dicts and lists, as it once was."""

    def __init__(self) -> None:
        self.contents: dict[int, tuple[int, int]] = {}
        self.purposes: dict[int, tuple[int, int, int]] = {}
        self.buckets: dict[int, list[tuple[int, int]]] = {}
        self.changes: list[tuple[int, ...]] = []

    def __len__(self) -> int:
        return len(self.contents)

    def see_key(self, key: int, *, event: int, content: int, purpose: int, now_ms: int) -> Sight:
        known = self.contents.get(key)
        if known is not None and now_ms - known[1] <= TTL_MS:
            return Sight.REPEAT if known[0] == content else Sight.CONFLICT
        self.remember(key, event, content, purpose, now_ms)
        return Sight.NEW

    def remember(self, *entry: int) -> None:
        key, event, content, purpose, at_ms = entry
        self.contents[key] = (content, at_ms)
        self.purposes[event] = (purpose, at_ms, key)
        self.buckets.setdefault(at_ms // BUCKET_MS, []).append((key, event))
        self.changes.append(entry)

    def remember_all(self, **columns: list[int]) -> None:
        names = ("keys", "events", "contents", "purposes", "at_ms")
        for entry in zip(*(columns[name] for name in names), strict=True):
            self.remember(*entry)

    def purpose_of(self, event: int, *, now_ms: int) -> int | None:
        known = self.purposes.get(event)
        return known[0] if known is not None and now_ms - known[1] <= TTL_MS else None

    def forget_before(self, now_ms: int) -> None:
        horizon = (now_ms - TTL_MS) // BUCKET_MS
        made_room = False
        for bucket in sorted(self.buckets):
            if bucket < horizon:
                self.drop(bucket, len(self.buckets[bucket]))
            elif len(self.contents) > ENTRIES_MAX:
                self.drop(bucket, len(self.contents) - ENTRIES_MAX)
            else:
                break
            made_room = True
        if made_room:
            self.changes.append((now_ms,))

    def drop(self, bucket: int, count: int) -> None:
        for key, event in self.buckets[bucket][:count]:
            known = self.contents.get(key)
            if known is not None and known[1] // BUCKET_MS == bucket:
                del self.contents[key]
            owner = self.purposes.get(event)
            if owner is not None and owner[2] == key and owner[1] // BUCKET_MS == bucket:
                del self.purposes[event]
        del self.buckets[bucket][:count]
        if not self.buckets[bucket]:
            del self.buckets[bucket]

    def dump(self) -> dict[str, list[bytes]]:
        contents = [(key, *value) for key, value in self.contents.items()]
        purposes = [(event, *value) for event, value in self.purposes.items()]
        pairs = [(at, *pair) for at, pairs in self.buckets.items() for pair in pairs]
        return {
            "contents": columns_of(contents, (np.uint64, np.uint64, np.int64)),
            "purposes": columns_of(purposes, (np.uint64, np.uint16, np.int64, np.uint64)),
            "buckets": columns_of(pairs, (np.int64, np.uint64, np.uint64)),
        }

    def take_changes(self) -> bytes:
        done, self.changes = self.changes, []
        told: list[Any] = []
        for width, run in groupby(done, len):
            if width == 1:
                told += [now_ms for (now_ms,) in run]
            else:
                told.append(columns_of([*run], ENTRY))
        return msgspec.msgpack.encode(told) if told else b""


def columns_of(rows: Sequence[tuple[int, ...]], kinds: tuple[Any, ...]) -> list[bytes]:
    columns = zip(*rows, strict=True) if rows else [()] * len(kinds)
    return [np.array(one, kind).tobytes() for one, kind in zip(columns, kinds, strict=True)]


def rows_in(columns: list[bytes], kinds: tuple[Any, ...]) -> list[tuple[int, ...]]:
    told = [np.frombuffer(one, kind).tolist() for one, kind in zip(columns, kinds, strict=True)]
    return [*zip(*told, strict=True)]


def meant(dumped: dict[str, list[bytes]]) -> dict[str, Any]:
    """What was saved, whatever the order of entries and of buckets in it."""
    pairs = rows_in(dumped["buckets"], (np.int64, np.uint64, np.uint64))
    return {
        "contents": sorted(rows_in(dumped["contents"], (np.uint64, np.uint64, np.int64))),
        "purposes": sorted(
            rows_in(dumped["purposes"], (np.uint64, np.uint16, np.int64, np.uint64))
        ),
        "buckets": sorted(pairs, key=lambda pair: pair[0]),
    }


Act = Callable[[Any], Any]

hashes = [0, 1, 2, 3, 1 << 32, 5 << 32, 1 << 63, MASK, MASK - 1, MASK - (1 << 32), MASK ^ 5 << 33]
meeting = [hashed * pow(slots._FACTOR, -1, 1 << 64) & MASK for hashed in hashes]
keys = st.sampled_from([*meeting, *range(1, 12), 1 << 40])
moments = st.integers(0, 24).map(lambda step: step * STEP_MS)
entries = st.tuples(keys, keys, st.integers(0, 2), st.integers(0, 3), moments)


def see(entry: tuple[int, ...]) -> Act:
    key, event, content, purpose, now_ms = entry
    told = {"event": event, "content": content, "purpose": purpose, "now_ms": now_ms}
    return lambda held: held.see_key(key, **told)


def remember(found: Sequence[tuple[int, ...]]) -> Act:
    names = ("keys", "events", "contents", "purposes", "at_ms")
    columns = {name: [entry[at] for entry in found] for at, name in enumerate(names)}
    return lambda held: held.remember_all(**columns)


def ask(event: int, now_ms: int) -> Act:
    return lambda held: held.purpose_of(event, now_ms=now_ms)


def forget(now_ms: int) -> Act:
    return lambda held: held.forget_before(now_ms)


acts = st.one_of(
    st.builds(see, entries),
    st.builds(remember, st.lists(entries, max_size=30)),
    st.builds(ask, keys, moments),
    st.builds(forget, moments),
)
stories = st.lists(st.lists(acts, max_size=8), max_size=5)


def loaded(dumped: Any) -> Memory:
    again = Memory(TTL_MS, ENTRIES_MAX)
    again.load(dumped)
    return again


def play(story: list[list[Act]]) -> None:
    plain, held, follower = Plain(), *(Memory(TTL_MS, ENTRIES_MAX) for _ in range(2))
    held.watch()
    for epoch in story:
        for act in epoch:
            assert act(plain) == act(held)
            assert len(plain) == len(held)
        dumped, changes = held.dump(), held.take_changes()
        assert meant(plain.dump()) == meant(dumped)
        assert plain.take_changes() == changes
        if changes:
            follower.apply(changes)
        assert dumped == follower.dump()
        assert dumped == loaded(plain.dump()).dump() == loaded(dumped).dump()
        # Every other worker would go on from what was saved.
        held = loaded(plain.dump() if len(epoch) % 2 else dumped)
        held.watch()


@pytest.mark.parametrize("many", [1, 1_000])
@given(story=stories)
@settings(max_examples=150, deadline=None)
def test_a_memory_is_what_it_is_in_dicts(many: int, story: list[list[Act]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(few, "MANY", many)
        patch.setattr(slots, "_MANY", many)
        patch.setattr(slots, "_PART", 8)
        play(story)


def test_a_large_memory_is_what_it_is_in_dicts() -> None:
    random = np.random.default_rng(7)
    acts_: list[Act] = []
    for turn in range(60):
        found = random.integers(0, 4_000, (random.integers(1, 400), 5)).tolist()
        told = [(k, e, c % 3, p % 4, turn * STEP_MS + at * 100) for k, e, c, p, at in found]
        acts_ += [remember(told), *map(see, told[:5]), forget(turn * STEP_MS)]

    play([acts_[:100], acts_[100:]])
