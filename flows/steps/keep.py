"""Keep a part of a state by what changed of it, where there is a journal for that."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, Final, Protocol
from zlib import crc32

import msgspec

from schemas.errors import PermanentError

Mark = tuple[str, int, int]


RENEW_S: Final = 86_400
"""How long a journal grows before it begins anew with a whole."""

_APART_S: Final = 14_400


class Keeper(Protocol):
    """A journal: see `connectors.journal`."""

    def read(self, mark: Mark) -> Iterator[bytes]:
        """The whole, and then its changes, up to a mark."""
        ...

    def save(self, changed: bytes, whole: Callable[[], bytes], *, anew: bool = False) -> Mark:
        """Make changes durable, or the whole with them; empty for none."""
        ...

    def remove(self) -> None:
        """Remove all of it."""
        ...


OpenJournal = Callable[[str], Keeper]
"""Opens a journal by its name."""


class Part(Protocol):
    """A part of a state that can tell what changed of it."""

    def dump(self) -> Any:
        """All of it, as plain values."""
        ...

    def load(self, dumped: Any) -> None:
        """Take back what `dump` gave."""
        ...

    def watch(self) -> None:
        """Note changes from now on."""
        ...

    def has_erased(self) -> bool:
        """Whether what was told before holds what somebody had erased since the last time."""
        ...

    def take_changes(self) -> bytes:
        """What changed since the last time, or since `watch`; empty for nothing."""
        ...

    def apply(self, changes: bytes) -> None:
        """Change as `take_changes` told."""
        ...


class Kept:
    """A part of a lane's state, in a journal once `keep_as` has named one.

    Promise: after `load` the part is what it was at `dump`, with a journal or without. Saving costs
    what changed, with one; else what there is. A `dump` that is `RENEW_S` after the whole, or up to
    four hours sooner, so that not all are due at once, begins anew: what went out of the part with
    its time is gone from disk with the `dump` after that one.
    Errors: those of the journal; PermanentError for a state in a journal where there are none.
    """

    def __init__(self, part: Part, *, now_s: Callable[[], float] = time.time) -> None:
        self._part = part
        self._now_s = now_s
        self._whole_s = 0
        self._number = 0
        self._renew_s = RENEW_S
        self._open: OpenJournal | None = None
        self._journal: Keeper | None = None

    def keep_in(self, journals: OpenJournal | None) -> None:
        """Say where journals are; to be said before `load`."""
        self._open = journals

    @property
    def is_kept(self) -> bool:
        """Whether there is nothing to name any more."""
        return self._open is None or self._journal is not None

    def keep_as(self, name: str) -> None:
        """Name the journal, where there are some and none was named before."""
        if self._open is not None and self._journal is None:
            self._write_to(self._open(name), name)

    def dump(self) -> Any:
        """The part as plain values: all of it, or how far its journal counts."""
        if self._journal is None:
            return self._part.dump()
        now_s = int(self._now_s())
        is_young = 0 <= now_s - self._whole_s < self._renew_s
        anew = self._part.has_erased() or not is_young
        changes = self._part.take_changes()
        whole = lambda: msgspec.msgpack.encode(self._part.dump())  # noqa: E731 - seldom called
        mark = self._journal.save(changes, whole, anew=anew)
        if mark[1] != self._number:
            self._number, self._whole_s = mark[1], now_s
        return {"journal": mark, "whole_s": self._whole_s}

    def load(self, dumped: Any) -> None:
        """Take back what `dump` gave."""
        if not isinstance(dumped, dict) or "journal" not in dumped:
            self._part.load(dumped)
            return
        name, number, size = dumped["journal"]
        if self._open is None:
            raise PermanentError(
                do="resume",
                kind="journal",
                name=name,
                found="no folder of journals here",
                hint="run this flow with `airside run` on the data folder that it was saved in",
            )
        journal = self._open(name)
        chunks = journal.read((name, number, size))
        self._part.load(msgspec.msgpack.decode(next(chunks)))
        for changes in chunks:
            self._part.apply(changes)
        self._number, self._whole_s = number, dumped.get("whole_s", 0)
        self._write_to(journal, name)

    def _write_to(self, journal: Keeper, name: str) -> None:
        self._journal = journal
        self._renew_s = RENEW_S - crc32(name.encode()) % _APART_S
        self._part.watch()
