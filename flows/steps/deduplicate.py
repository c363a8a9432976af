"""Remember which events were accepted, for a while, so that a repeat changes nothing."""

from __future__ import annotations

from array import array
from enum import Enum
from itertools import pairwise
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from flows.steps.slots import NO_ROW, Column, Hashes, Places, Slots
from schemas.few import are_few

_BUCKET_MS: Final = 600_000
_MASK: Final = (1 << 64) - 1
_ROWS_MIN: Final = 128
_ENTRY: Final = (np.uint64, np.uint64, np.uint64, np.uint16, np.int64)


def salt_of(source: int) -> int:
    """What is added to the hash of an id, so that equal ids of two sources are two events."""
    return source * 0x9E3779B97F4A7C15 & _MASK


class Sight(Enum):
    """What is known of an event: never seen, seen with this content, seen with another."""

    NEW = "new"
    REPEAT = "repeat"
    CONFLICT = "conflict"


class Memory:
    """Accepted events of one lane: identity and content as 64-bit hashes, and their purpose.

    An entry's age is judged when it is looked up, by the event time of the partition that asks,
    so what is a repeat does not depend on when room is made.
    Units: times in milliseconds of event time.
    State: `entries_max` events after each `forget_before`; the oldest go first. Each acceptance is
    a row, which is found by its key and by its event until another one is accepted under the same;
    it is free again when its bucket, all that was accepted for the same ten minutes, drops it.
    """

    def __init__(self, ttl_ms: int, entries_max: int) -> None:
        self.ttl_ms = ttl_ms
        self.entries_max = entries_max
        # What was done since it was last told: entries by column, moments that made room. Behind
        # it come the rows that are untold.
        self._changes: list[int | list[bytes]] | None = None
        self._clear()

    def _clear(self) -> None:
        self._keys, self._events = Slots(), Slots()
        self._contents, self._purposes = Column(np.uint64), Column(np.uint16)
        self._at_ms = Column(np.int64)
        self._buckets: dict[int, array[int]] = {}
        self._rows = 0
        self._free = array("i")
        self._untold = array("i")

    def __len__(self) -> int:
        return len(self._keys)

    def see(self, *, event: int, source: int, content: int, purpose: int, now_ms: int) -> Sight:
        """Tell whether an event is new, and remember it if it is.

        Shapes: `event` and `content` are 64-bit hashes of the id and of everything that must not
        change; `source` is the 64-bit hash of the source; `purpose` a small number.
        """
        key = (event + salt_of(source)) & _MASK
        return self.see_key(key, event=event, content=content, purpose=purpose, now_ms=now_ms)

    def see_key(self, key: int, *, event: int, content: int, purpose: int, now_ms: int) -> Sight:
        """The same by the key of an event: its hash, and its source's salt on top."""
        row = self._keys.find_one(key)
        if row != NO_ROW and now_ms - self._at_ms.one[row] <= self.ttl_ms:
            return Sight.REPEAT if self._contents.one[row] == content else Sight.CONFLICT
        self._remember(key, event, content=content, purpose=purpose, at_ms=now_ms)
        return Sight.NEW

    def _remember(self, key: int, event: int, *, content: int, purpose: int, at_ms: int) -> None:
        row = self._free.pop() if self._free else self._new_rows(1)
        self._contents.one[row] = content
        self._purposes.one[row] = purpose
        self._at_ms.one[row] = at_ms
        self._keys.put_one(key, row)
        self._events.put_one(event, row)
        number = at_ms // _BUCKET_MS
        (self._buckets.get(number) or self._bucket(number)).append(row)
        if self._changes is not None:
            self._untold.append(row)

    def remember_all(
        self,
        *,
        keys: npt.ArrayLike,
        events: npt.ArrayLike,
        contents: npt.ArrayLike,
        purposes: npt.ArrayLike,
        at_ms: npt.ArrayLike,
    ) -> None:
        """Remember events that were never seen, in their order. Shapes: columns as of `see`."""
        told = zip((keys, events, contents, purposes, at_ms), _ENTRY, strict=True)
        columns = [np.asarray(column, kind) for column, kind in told]
        if are_few(columns[0]):
            for key, event, content, purpose, now_ms in zip(*map(_listed, columns), strict=True):
                self._remember(key, event, content=content, purpose=purpose, at_ms=now_ms)
            return
        *named, content_column, purpose_column, times = columns
        rows = self._take_rows(len(times))
        self._contents.all[rows], self._purposes.all[rows] = content_column, purpose_column
        self._at_ms.all[rows] = times
        for slots, column in zip((self._keys, self._events), named, strict=True):
            slots.put(column, rows)
        self._fill_buckets(times // _BUCKET_MS, rows)
        if self._changes is not None:
            self._untold.frombytes(_packed(rows))

    def _take_rows(self, count: int) -> Places:
        """So many rows that nothing is in."""
        again = self._free[max(len(self._free) - count, 0) :]
        del self._free[len(self._free) - len(again) :]
        count -= len(again)
        first = self._new_rows(count)
        fresh = np.arange(first, first + count)
        return np.concatenate((_unpacked(again), fresh)) if again else fresh

    def _new_rows(self, count: int) -> int:
        """The first of so many rows that there never were."""
        first = self._rows
        self._rows += count
        room = len(self._at_ms.all)
        if self._rows > room:
            columns = (self._contents, self._purposes, self._at_ms)
            for column in (*columns, self._keys.keys, self._events.keys):
                column.stretch(max(self._rows, 2 * room, _ROWS_MIN))
        return first

    def _bucket(self, number: int) -> array[int]:
        found = self._buckets.get(number)
        if found is None:
            found = self._buckets[number] = array("i")
        return found

    def _fill_buckets(self, numbers: npt.NDArray[np.int64], rows: Places) -> None:
        """Add rows to their buckets, in their order."""
        order = np.argsort(numbers, kind="stable")
        numbers, rows = numbers[order], rows[order]
        firsts = np.flatnonzero(np.diff(numbers, prepend=-1)).tolist()
        for first, end in pairwise((*firsts, len(rows))):
            self._bucket(numbers.item(first)).frombytes(_packed(rows[first:end]))

    def knows(self, keys: Hashes) -> npt.NDArray[np.bool_]:
        """Tell which keys are remembered, however long."""
        known: npt.NDArray[np.bool_] = self._keys.find(keys) != NO_ROW
        return known

    def purposes_of(self, events: Hashes, *, unknown: int) -> npt.NDArray[np.int64]:
        """The purposes of events that are remembered, however long; `unknown` for the others."""
        rows = self._events.find(events)
        purposes = np.full(len(events), unknown)
        known = rows != NO_ROW
        purposes[known] = self._purposes.all[rows[known]]
        return purposes

    def purpose_of(self, event: int, *, now_ms: int) -> int | None:
        """The purpose of a remembered event, by the hash of its id."""
        row = self._events.find_one(event)
        if row == NO_ROW or now_ms - self._at_ms.one[row] > self.ttl_ms:
            return None
        return self._purposes.one[row]

    def forget_before(self, now_ms: int) -> None:
        """Make room: drop what is older than the time to live, and the oldest above the bound."""
        horizon = (now_ms - self.ttl_ms) // _BUCKET_MS
        made_room = False
        for bucket in sorted(self._buckets):
            if bucket < horizon:
                count = len(self._buckets[bucket])
            elif len(self) > self.entries_max:
                count = len(self) - self.entries_max
            else:
                break
            self._tell()
            self._drop(bucket, count)
            made_room = True
        if made_room and self._changes is not None:
            self._changes.append(now_ms)

    def _drop(self, bucket: int, count: int) -> None:
        """Forget the first entries of a bucket, but for those that were accepted again since."""
        first = self._buckets[bucket][:count]
        if are_few(first):
            for row in first:
                self._drop_row(bucket, row)
        else:
            self._drop_rows(bucket, _unpacked(first))
        self._free.extend(first)
        del self._buckets[bucket][:count]
        if not self._buckets[bucket]:
            del self._buckets[bucket]

    def _drop_rows(self, bucket: int, rows: Places) -> None:
        keys, events = self._keys.keys.all[rows], self._events.keys.all[rows]
        mine = self._of_bucket(bucket, self._keys.find(keys))
        self._keys.drop(keys[mine])
        owners = self._events.find(events)
        mine = self._of_bucket(bucket, owners)
        mine = mine[self._keys.keys.all[owners[mine]] == keys[mine]]
        self._events.drop(events[mine])

    def _drop_row(self, bucket: int, row: int) -> None:
        """The same of one row."""
        key, event = self._keys.keys.one[row], self._events.keys.one[row]
        holder, owner = self._keys.find_one(key), self._events.find_one(event)
        if self._is_of(bucket, holder):
            self._keys.drop_one(key)
        if self._is_of(bucket, owner) and self._keys.keys.one[owner] == key:
            self._events.drop_one(event)

    def _is_of(self, bucket: int, row: int) -> bool:
        return row != NO_ROW and bool(self._at_ms.one[row] // _BUCKET_MS == bucket)

    def _of_bucket(self, bucket: int, rows: Places) -> Places:
        """Where there is a row, and it is of this bucket."""
        found = np.flatnonzero(rows != NO_ROW)
        mine: Places = found[self._at_ms.all[rows[found]] // _BUCKET_MS == bucket]
        return mine

    def dump(self) -> dict[str, Any]:
        """A copy as flat bytes, for a snapshot; what is remembered alike gives the same bytes."""
        accepted = array("i")
        for number in sorted(self._buckets):
            accepted.extend(self._buckets[number])
        rows = _unpacked(accepted)
        known, owners = self._found_by(self._keys, rows), self._found_by(self._events, rows)
        keys, events, at_ms = self._keys.keys.all, self._events.keys.all, self._at_ms.all
        sizes = [len(self._buckets[number]) for number in sorted(self._buckets)]
        buckets = np.repeat(np.array(sorted(self._buckets), np.int64), sizes)
        return {
            "contents": _columns(keys[known], self._contents.all[known], at_ms[known]),
            "purposes": _columns(
                events[owners], self._purposes.all[owners], at_ms[owners], keys[owners]
            ),
            "buckets": _columns(buckets, keys[rows], events[rows]),
        }

    def _found_by(self, slots: Slots, rows: Places) -> Places:
        """Those rows that are found there, in their order."""
        found = np.zeros(self._rows, np.bool_)
        found[slots.rows()] = True
        return rows[found[rows]]

    def load(self, dumped: dict[str, Any]) -> None:
        """Take back what `dump` gave."""
        self._clear()
        buckets, keys, events = _read(dumped["buckets"], (np.int64, np.uint64, np.uint64))
        rows = self._take_rows(len(keys))
        self._keys.keys.all[rows], self._events.keys.all[rows] = keys, events
        self._fill_buckets(buckets, rows)
        named, contents, at_ms = _read(dumped["contents"], (np.uint64, np.uint64, np.int64))
        mine, there = _matching(keys, buckets, named, at_ms)
        self._contents.all[mine], self._at_ms.all[mine] = contents[there], at_ms[there]
        self._keys.put(keys[mine], mine)
        kinds = (np.uint64, np.uint16, np.int64, np.uint64)
        named, purposes, at_ms, owners = _read(dumped["purposes"], kinds)
        mine, there = _matching(events, buckets, named, at_ms)
        own = owners[there] == keys[mine]
        mine, there = mine[own], there[own]
        self._purposes.all[mine], self._at_ms.all[mine] = purposes[there], at_ms[there]
        self._events.put(events[mine], mine)

    def watch(self) -> None:
        """Note changes from now on."""
        self._changes, self._untold = [], array("i")

    def has_erased(self) -> bool:
        """Never: hashes name nobody, and go with their time."""
        return False

    def take_changes(self) -> bytes:
        """What was done since the last time, in its order; empty for nothing.

        Shapes: runs of entries by column, and between them the moments that made room.
        """
        self._tell()
        told, self._changes = self._changes, []
        return msgspec.msgpack.encode(told) if told else b""

    def _tell(self) -> None:
        """Note what was accepted since the last change; its rows may be free hereafter."""
        if self._changes is None or not self._untold:
            return
        rows, self._untold = _unpacked(self._untold), array("i")
        columns = (self._contents, self._purposes, self._at_ms)
        named = (self._keys.keys, self._events.keys)
        self._changes.append(_columns(*(column.all[rows] for column in (*named, *columns))))

    def apply(self, changes: bytes) -> None:
        """Do again what `take_changes` told."""
        for part in msgspec.msgpack.decode(changes, type=list[int | list[bytes]]):
            if isinstance(part, int):
                self.forget_before(part)
                continue
            keys, events, contents, purposes, at_ms = _read(part, _ENTRY)
            self.remember_all(
                keys=keys, events=events, contents=contents, purposes=purposes, at_ms=at_ms
            )


def _matching(keys: Hashes, buckets: Places, named: Hashes, at_ms: Places) -> tuple[Places, Places]:
    """Which of these acceptances are those that are named: their places, and the names'."""
    names = Slots()
    names.keys.stretch(len(named))
    names.put(named, np.arange(len(named)))
    found = names.find(keys)
    mine = np.flatnonzero(found != NO_ROW)
    mine = mine[at_ms[found[mine]] // _BUCKET_MS == buckets[mine]]
    return mine, found[mine]


def _listed(column: npt.NDArray[Any]) -> list[int]:
    listed: list[int] = column.tolist()
    return listed


def _packed(rows: Places) -> bytes:
    return rows.astype(np.int32).tobytes()


def _unpacked(rows: array[int]) -> Places:
    return np.array(rows, np.int64)


def _columns(*columns: npt.NDArray[Any]) -> list[bytes]:
    return [column.tobytes() for column in columns]


def _read(columns: list[bytes], kinds: tuple[Any, ...]) -> list[npt.NDArray[Any]]:
    return [np.frombuffer(part, kind) for part, kind in zip(columns, kinds, strict=True)]
