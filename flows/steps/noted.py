"""Entries by key that can tell which of them changed, for a journal."""

from __future__ import annotations

from collections.abc import ItemsView, Iterable, Iterator, ValuesView
from typing import Any, Generic, TypeVar

K = TypeVar("K", str, int)
V = TypeVar("V")

Changes = tuple[list[Any], list[Any], list[Any]]
"""Keys that went, and keys and entries that are new or others now, in the order of the table."""


class Noted(Generic[K, V]):
    """Entries in the order in which their keys came.

    Promise: `apply` of what `take_changes` told makes the same entries in the same order of what
    they were before. An entry that is changed in place has to be put again.
    State: beside the entries, the keys of those that changed since they were last told.
    """

    def __init__(self) -> None:
        self._entries: dict[K, V] = {}
        self._changed: dict[K, None] = {}
        self._gone: list[K] = []
        self._watches = False

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: K) -> bool:
        return key in self._entries

    def __iter__(self) -> Iterator[K]:
        return iter(self._entries)

    def get(self, key: K) -> V | None:
        """The entry of a key, if there is one."""
        return self._entries.get(key)

    def items(self) -> ItemsView[K, V]:
        """All of them."""
        return self._entries.items()

    def values(self) -> ValuesView[V]:
        """The entries alone."""
        return self._entries.values()

    def put(self, key: K, value: V) -> None:
        """Set an entry: a new one behind all others, a known one in its place."""
        self._entries[key] = value
        if self._watches:
            self._changed[key] = None

    def drop(self, key: K) -> V | None:
        """Remove an entry, if there is one, and give it."""
        gone = self._entries.pop(key, None)
        if gone is not None and self._watches:
            self._changed.pop(key, None)
            self._gone.append(key)
        return gone

    def fill(self, keys: Iterable[K], values: Iterable[V]) -> None:
        """Hold these, and nothing else."""
        self._entries = dict(zip(keys, values, strict=True))
        self._changed, self._gone = {}, []

    def watch(self) -> None:
        """Note changes from now on."""
        self._watches, self._changed, self._gone = True, {}, []

    def take_changes(self) -> Changes | None:
        """What changed since the last time; None for nothing."""
        if not self._changed and not self._gone:
            return None
        keys, gone = list(self._changed), self._gone
        self._changed, self._gone = {}, []
        return gone, keys, list(map(self._entries.__getitem__, keys))

    def apply(self, changes: Changes) -> None:
        """Change as `take_changes` told."""
        gone, keys, values = changes
        for key in gone:
            self._entries.pop(key, None)
        self._entries.update(zip(keys, values, strict=True))
