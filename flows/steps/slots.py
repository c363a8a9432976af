"""Find rows by 64-bit keys: a hash table in arrays, for many keys at once and for one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint64]
Places = npt.NDArray[np.int64]

NO_ROW: Final = -1
_PLACES_MIN: Final = 256
# Below so many keys a probe of arrays costs more than going one by one.
_MANY: Final = 64
# When so few are left of many, the same.
_REST: Final = 8
# Of more than so many, one part after the other: what is worked on stays in the processor's cache.
_PART: Final = 8_192
# From these shares of its places on, a table is made anew, and may hold so much then.
_USED_MAX: Final = 2 / 3
_LIVE_MAX: Final = 2 / 5
# Odd, so that no two keys have one hash: those of neighbours lie far apart.
_FACTOR: Final = 0xD6E8FEB86659FD93
_MASK: Final = (1 << 64) - 1
_LOW: Final = (1 << 32) - 1
# What a place holds: nothing, a key that was dropped, or (tag, row), where no tag is 0.
_EMPTY: Final = 0
_DROPPED: Final = 1


class Column:
    """Numbers by row: many through `all`, one, as a plain int, through `one`."""

    __slots__ = ("all", "one")

    def __init__(self, kind: Any, size: int = 0) -> None:
        self.all: npt.NDArray[Any] = np.zeros(size, kind)
        self.one = self.all.data

    def stretch(self, size: int) -> None:
        """Make room for so many. Shapes: those that there are keep their rows."""
        known = self.all
        self.all = np.empty(size, known.dtype)
        self.all[: len(known)] = known
        self.one = self.all.data


class Slots:
    """Rows by their keys, and the key of each row.

    Shapes: a key has at most one row, and no two keys have the same one. Rows are below 2**32.
    A place holds a row and 32 bits of the hash of its key, which tell nearly all keys apart; `keys`
    tells the rest. Places are tried at distances that grow, so that neighbours make no clusters.
    State: 8 bytes a place, of which a third to two thirds are in use; 8 bytes a row. What is
    dropped leaves a mark, so that what lies behind it is found, until the table is made anew.
    """

    def __init__(self) -> None:
        self.keys = Column(np.uint64)
        self._live = 0
        self._empty(_PLACES_MIN)

    def __len__(self) -> int:
        return self._live

    def _empty(self, size: int) -> None:
        self._entries = Column(np.uint64, size)
        self._last = size - 1
        self._shift = 65 - size.bit_length()
        self._used = 0
        self._used_max = int(size * _USED_MAX)

    def _make_room(self, count: int) -> None:
        """See that so many more keys have places; others are only moved when these have none."""
        if self._used + count <= self._used_max:
            return
        rows = self.rows()
        size = _PLACES_MIN
        while size * _LIVE_MAX < self._live + count:
            size *= 2
        self._empty(size)
        for part in _parts(len(rows)):
            self._settle(self.keys.all[rows[part]], rows[part])

    def rows(self) -> Places:
        """All rows that are found by their key, in no order."""
        entries = self._entries.all
        return _rows(entries[entries > _DROPPED])

    def find(self, keys: Hashes) -> Places:
        """The row of each key, or `NO_ROW`."""
        if len(keys) < _MANY:
            return np.array([*map(self.find_one, keys.tolist())], np.int64)
        rows = np.empty(len(keys), np.int64)
        for part in _parts(len(keys)):
            places = self._places(keys[part])
            rows[part] = np.where(places < 0, NO_ROW, _rows(self._entries.all[places]))
        return rows

    def find_one(self, key: int) -> int:
        """The row of a key, or `NO_ROW`."""
        entry = self._entries.one[self._seek(key)]
        return entry & _LOW if entry else NO_ROW

    def put(self, keys: Hashes, rows: Places) -> None:
        """Let keys have these rows from now on; the last one counts for a key that comes twice."""
        self.keys.all[rows] = keys
        if len(keys) < _MANY:
            for key, row in zip(keys.tolist(), rows.tolist(), strict=True):
                self.put_one(key, row)
            return
        self._make_room(len(keys))
        for part in _parts(len(keys)):
            self._put_all(keys[part], rows[part])

    def _put_all(self, keys: Hashes, rows: Places) -> None:
        """The same of many keys. Shapes: there is room for them."""
        if repeated(keys).size:
            _, behind = np.unique(keys[::-1], return_index=True)
            last = len(keys) - 1 - behind
            keys, rows = keys[last], rows[last]
        places = self._places(keys)
        known = places >= 0
        if known.any():
            self._entries.all[places[known]] = _entries(keys[known], rows[known])
            keys, rows = keys[~known], rows[~known]
        self._live += len(keys)
        self._settle(keys, rows)

    def put_one(self, key: int, row: int) -> None:
        """The same of one key."""
        if self._used >= self._used_max:
            self._make_room(1)
        self.keys.one[row] = key
        place = self._seek(key)
        entries = self._entries.one
        if not entries[place]:
            self._live += 1
            self._used += 1
        entries[place] = (key * _FACTOR & _LOW | 1) << 32 | row

    def drop(self, keys: Hashes) -> None:
        """Let these keys have no row any more, whether they had one or not."""
        if len(keys) < _MANY:
            for key in keys.tolist():
                self.drop_one(key)
            return
        for part in _parts(len(keys)):
            places = self._places(keys[part])
            places = np.unique(places[places >= 0])
            self._entries.all[places] = _DROPPED
            self._live -= len(places)

    def drop_one(self, key: int) -> None:
        """The same of one key."""
        place = self._seek(key)
        if self._entries.one[place]:
            self._entries.one[place] = _DROPPED
            self._live -= 1

    def _seek(self, key: int) -> int:
        """The place of a key, or the empty one where it would be."""
        hashed = key * _FACTOR & _MASK
        tag = hashed & _LOW | 1
        place = hashed >> self._shift
        entries, step = self._entries.one, 0
        while entry := entries[place]:
            if entry >> 32 == tag and self.keys.one[entry & _LOW] == key:
                break
            step += 1
            place = place + step & self._last
        return place

    def _places(self, keys: Hashes) -> Places:
        """The place of each key, or -1."""
        found = np.full(len(keys), -1)
        asked = np.arange(len(keys))
        tags, places = self._begin(keys)
        step = 0
        while asked.size > _REST:
            seen = self._entries.all[places]
            alike = np.flatnonzero(seen >> 32 == tags)
            if alike.size:
                hit = alike[self.keys.all[_rows(seen[alike])] == keys[asked[alike]]]
                found[asked[hit]] = places[hit]
                seen[hit] = _EMPTY  # their search ends, as at an empty place
            onward = np.flatnonzero(seen)
            step += 1
            asked, tags, places = asked[onward], tags[onward], places[onward] + step & self._last
        for at in asked.tolist():
            place = self._seek(keys.item(at))
            if self._entries.one[place]:
                found[at] = place
        return found

    def _settle(self, keys: Hashes, rows: Places) -> None:
        """Give keys a place each. Shapes: none has one, and none comes twice."""
        self._used += len(keys)
        entries, places = _entries(keys, rows), self._begin(keys)[1]
        table = self._entries.all
        step = 0
        while entries.size > _REST:
            free = np.flatnonzero(table[places] == _EMPTY)
            table[places[free]] = entries[free]
            # Of several at one place, one is in it now; the others go on.
            onward = np.flatnonzero(table[places] != entries)
            step += 1
            entries, places = entries[onward], places[onward] + step & self._last
        for entry in entries.tolist():
            self._entries.one[self._seek(self.keys.one[entry & _LOW])] = entry

    def _begin(self, keys: Hashes) -> tuple[Hashes, Places]:
        """The tag of each key, and the place that it has if nothing else does."""
        hashes = keys * np.uint64(_FACTOR)
        return _tags(hashes), (hashes >> np.uint64(self._shift)).view(np.int64)


def _parts(count: int) -> Iterator[slice]:
    for first in range(0, count, _PART):
        yield slice(first, first + _PART)


def _tags(hashes: Hashes) -> Hashes:
    return hashes & np.uint64(_LOW) | np.uint64(1)


def _entries(keys: Hashes, rows: Places) -> Hashes:
    """What the places of these keys hold."""
    return _tags(keys * np.uint64(_FACTOR)) << np.uint64(32) | rows.view(np.uint64)


def _rows(entries: Hashes) -> Places:
    """The rows that places hold."""
    return (entries & np.uint64(_LOW)).view(np.int64)


def repeated(keys: Hashes) -> Hashes:
    """The keys that come more than once, rising."""
    ordered = np.sort(keys)
    again: Hashes = ordered[1:][ordered[1:] == ordered[:-1]]
    return again
