"""Remember which events were accepted, for a while, so that a repeat changes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from enum import Enum
from itertools import chain, groupby
from operator import itemgetter
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

_BUCKET_MS: Final = 600_000
_MASK: Final = (1 << 64) - 1
_ENTRY: Final = (np.uint64, np.uint64, np.uint64, np.uint16, np.int64)
_WIDTH: Final = len(_ENTRY)


def salt_of(source: int) -> int:
    """What is added to the hash of an id, so that equal ids of two sources are two events."""
    return source * 0x9E3779B97F4A7C15 & _MASK


class Sight(Enum):
    """What is known of an event: never seen, seen with this content, seen with another."""

    NEW = "new"
    REPEAT = "repeat"
    CONFLICT = "conflict"


class Memory(msgspec.Struct):
    """Accepted events of one lane: identity and content as 64-bit hashes, and their purpose.

    An entry's age is judged when it is looked up, by the event time of the partition that asks,
    so what is a repeat does not depend on when room is made.
    Units: times in milliseconds of event time.
    State: `entries_max` events after each `forget_before`; the oldest go first.
    """

    ttl_ms: int
    entries_max: int
    # key -> (content, accepted at); event -> (purpose, accepted at, key)
    contents: dict[int, tuple[int, int]] = {}
    purposes: dict[int, tuple[int, int, int]] = {}
    buckets: dict[int, list[tuple[int, int]]] = {}
    # What was done since it was last told: entries that were remembered, moments that made room.
    changes: list[tuple[int, ...]] | None = None

    def see(self, *, event: int, source: int, content: int, purpose: int, now_ms: int) -> Sight:
        """Tell whether an event is new, and remember it if it is.

        Shapes: `event` and `content` are 64-bit hashes of the id and of everything that must not
        change; `source` is the 64-bit hash of the source; `purpose` a small number.
        """
        key = (event + salt_of(source)) & _MASK
        return self.see_key(key, event=event, content=content, purpose=purpose, now_ms=now_ms)

    def see_key(self, key: int, *, event: int, content: int, purpose: int, now_ms: int) -> Sight:
        """The same by the key of an event: its hash, and its source's salt on top."""
        known = self.contents.get(key)
        if known is not None and now_ms - known[1] <= self.ttl_ms:
            return Sight.REPEAT if known[0] == content else Sight.CONFLICT
        self._remember(key, event, content=content, purpose=purpose, at_ms=now_ms)
        return Sight.NEW

    def _remember(self, key: int, event: int, *, content: int, purpose: int, at_ms: int) -> None:
        self.contents[key] = (content, at_ms)
        self.purposes[event] = (purpose, at_ms, key)
        self.buckets.setdefault(at_ms // _BUCKET_MS, []).append((key, event))
        if self.changes is not None:
            self.changes.append((key, event, content, purpose, at_ms))

    def remember_all(
        self,
        *,
        keys: Sequence[int],
        events: Sequence[int],
        contents: Sequence[int],
        purposes: Sequence[int],
        at_ms: Sequence[int],
    ) -> None:
        """Remember events that were never seen, in their order. Shapes: columns as of `see`."""
        self.contents.update(zip(keys, zip(contents, at_ms, strict=True), strict=True))
        self.purposes.update(zip(events, zip(purposes, at_ms, keys, strict=True), strict=True))
        pairs = zip(keys, events, strict=True)
        buckets = [now_ms // _BUCKET_MS for now_ms in at_ms]
        for bucket, run in groupby(zip(buckets, pairs, strict=True), itemgetter(0)):
            self.buckets.setdefault(bucket, []).extend(map(itemgetter(1), run))
        if self.changes is not None:
            self.changes.extend(zip(keys, events, contents, purposes, at_ms, strict=True))

    def purpose_of(self, event: int, *, now_ms: int) -> int | None:
        """The purpose of a remembered event, by the hash of its id."""
        known = self.purposes.get(event)
        return known[0] if known is not None and now_ms - known[1] <= self.ttl_ms else None

    def forget_before(self, now_ms: int) -> None:
        """Make room: drop what is older than the time to live, and the oldest above the bound."""
        horizon = (now_ms - self.ttl_ms) // _BUCKET_MS
        made_room = False
        for bucket in sorted(self.buckets):
            if bucket < horizon:
                self._drop(bucket, len(self.buckets[bucket]))
            elif len(self.contents) > self.entries_max:
                self._drop(bucket, len(self.contents) - self.entries_max)
            else:
                break
            made_room = True
        if made_room and self.changes is not None:
            self.changes.append((now_ms,))

    def _drop(self, bucket: int, count: int) -> None:
        """Forget the first entries of a bucket, but for those that were accepted again since."""
        for key, event in self.buckets[bucket][:count]:
            known = self.contents.get(key)
            if known is not None and known[1] // _BUCKET_MS == bucket:
                del self.contents[key]
            owner = self.purposes.get(event)
            if owner is not None and owner[2] == key and owner[1] // _BUCKET_MS == bucket:
                del self.purposes[event]
        del self.buckets[bucket][:count]
        if not self.buckets[bucket]:
            del self.buckets[bucket]

    def dump(self) -> dict[str, Any]:
        """A copy as flat bytes, for a snapshot."""
        size = len(self.contents)
        contents = _flat(chain.from_iterable(self.contents.values()), size, 2)
        events = len(self.purposes)
        purposes = _flat(chain.from_iterable(self.purposes.values()), events, 3)
        sizes = [len(pairs) for pairs in self.buckets.values()]
        pairs = _flat(
            chain.from_iterable(chain.from_iterable(self.buckets.values())), sum(sizes), 2
        )
        return {
            "contents": _columns(_flat(self.contents, size, 1)[:, 0], *contents.T),
            "purposes": _columns(
                _flat(self.purposes, events, 1)[:, 0],
                purposes[:, 0].astype(np.uint16),
                *purposes[:, 1:].T,
            ),
            "buckets": _columns(np.repeat(np.array(list(self.buckets), np.int64), sizes), *pairs.T),
        }

    def load(self, dumped: dict[str, Any]) -> None:
        """Take back what `dump` gave."""
        flat = _rows(dumped["contents"], (np.uint64, np.uint64, np.int64))
        self.contents = {key: (content, at) for key, content, at in flat}
        events = _rows(dumped["purposes"], (np.uint64, np.uint16, np.int64, np.uint64))
        self.purposes = {event: (purpose, at, key) for event, purpose, at, key in events}
        self.buckets = {}
        for at, key, event in _rows(dumped["buckets"], (np.int64, np.uint64, np.uint64)):
            self.buckets.setdefault(at, []).append((key, event))

    def watch(self) -> None:
        """Note changes from now on."""
        self.changes = []

    def has_erased(self) -> bool:
        """Never: hashes name nobody, and go with their time."""
        return False

    def take_changes(self) -> bytes:
        """What was done since the last time, in its order; empty for nothing.

        Shapes: runs of entries by column, and between them the moments that made room.
        """
        done, self.changes = self.changes or [], []
        told: list[int | list[bytes]] = []
        for width, run in groupby(done, len):
            if width == 1:
                told += [now_ms for (now_ms,) in run]
                continue
            entries = list(run)
            table = _flat(chain.from_iterable(entries), len(entries), _WIDTH).T
            told.append(
                _columns(*(column.astype(kind) for column, kind in zip(table, _ENTRY, strict=True)))
            )
        return msgspec.msgpack.encode(told) if told else b""

    def apply(self, changes: bytes) -> None:
        """Do again what `take_changes` told."""
        for part in msgspec.msgpack.decode(changes, type=list[int | list[bytes]]):
            if isinstance(part, int):
                self.forget_before(part)
                continue
            keys, events, contents, purposes, at_ms = zip(*_rows(part, _ENTRY), strict=True)
            self.remember_all(
                keys=keys, events=events, contents=contents, purposes=purposes, at_ms=at_ms
            )


def _flat(numbers: Iterable[int], rows: int, width: int) -> npt.NDArray[np.uint64]:
    """A table of numbers that come row by row, in one C loop; times are never negative."""
    return np.fromiter(numbers, np.uint64, rows * width).reshape(rows, width)


def _columns(*columns: npt.NDArray[Any]) -> list[bytes]:
    return [column.tobytes() for column in columns]


def _rows(columns: list[bytes], kinds: tuple[Any, ...]) -> Iterator[tuple[int, ...]]:
    parts = [np.frombuffer(part, kind).tolist() for part, kind in zip(columns, kinds, strict=True)]
    return zip(*parts, strict=True)
