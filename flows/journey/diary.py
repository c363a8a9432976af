"""All that a lane keeps of journeys, as one part of its state."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from flows.journey.book import Book
from flows.journey.touches import People
from flows.process.watch import Watch


class Diary(NamedTuple):
    """Journeys, the people's touches, and what was told of exceptions.

    Promise: after `load` and `apply` it leads to the same rows and records as what was dumped.
    """

    book: Book
    people: People
    exceptions: Watch

    def dump(self) -> dict[str, Any]:
        """All of it, as plain values."""
        return {
            "book": self.book.dump(),
            "people": self.people.dump(),
            "watch": self.exceptions.dump(),
        }

    def load(self, dumped: dict[str, Any]) -> None:
        """Take back what `dump` gave."""
        self.book.load(dumped["book"])
        self.people.load(dumped["people"])
        # Releases without exceptions left none; what their journeys had broken is told now.
        self.exceptions.load(dumped.get("watch", {}))

    def watch(self) -> None:
        """Note changes from now on."""
        for part in self:
            part.watch()

    def has_erased(self) -> bool:
        """Never: people are pseudonyms here, which end with their keys."""
        return False

    def take_changes(self) -> bytes:
        """What changed since the last time; empty for nothing."""
        changes = [*self.book.take_changes(), self.people.take_changes()]
        changes += self.exceptions.take_changes()
        return msgspec.msgpack.encode(changes) if any(changes) else b""

    def apply(self, changes: bytes) -> None:
        """Change as `take_changes` told."""
        stories, forgotten, people, *exceptions = msgspec.msgpack.decode(changes)
        self.book.apply([stories, forgotten])
        self.people.apply(people)
        self.exceptions.apply(exceptions)
