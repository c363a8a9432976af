"""Keep the books: how many messages of each partition left by which door, and why.

A cell is a run of offsets of one partition. Offsets only rise, so a cell is complete once they
have passed it, and its counts are absolute: writing them again changes nothing.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Final, NamedTuple

from schemas.blocks import Rows
from schemas.codes import Door

RUN: Final = 10_000
"""Offsets in one cell."""


class Fate(NamedTuple):
    """By which door, why, and who sent it; the code is empty for a message without a fault."""

    door: Door
    code: str
    source: str


class Ledger:
    """The open cell of every partition of a lane. State: one counter each, bounded by `RUN`."""

    def __init__(self) -> None:
        self._cells: dict[tuple[str, int], tuple[int, Counter[Fate]]] = {}
        self._changed: dict[tuple[str, int, int, Fate], int] = {}

    def count(self, *, topic: str, partition: int, offset: int, fate: Fate) -> None:
        """Enter one message."""
        run = offset // RUN
        cell = self._cells.get((topic, partition))
        if cell is None or cell[0] != run:
            cell = self._cells[topic, partition] = (run, Counter())
        cell[1][fate] += 1
        self._changed[topic, partition, run, fate] = cell[1][fate]

    def take_changed(self, *, lane: int) -> Rows:
        """The cells that changed since the last call, as rows of `fates`."""
        changed, self._changed = self._changed, {}
        keys = list(changed)
        counts = list(changed.values())
        columns: dict[str, Any] = {
            "topic": [key[0] for key in keys],
            "part": [key[1] for key in keys],
            "run": [key[2] for key in keys],
            "door": [key[3].door.value for key in keys],
            "code": [key[3].code for key in keys],
            "source": [key[3].source for key in keys],
            "lane": [lane] * len(keys),
            "n": counts,
            "ver": counts,
        }
        return Rows("fates", len(keys), columns)

    def dump(self) -> list[Any]:
        """A copy for a snapshot."""
        return [
            [topic, part, run, [[*fate, n] for fate, n in cell.items()]]
            for (topic, part), (run, cell) in self._cells.items()
        ]

    def load(self, dumped: list[Any]) -> None:
        """Take back what `dump` gave."""
        self._changed = {}
        self._cells = {
            (topic, part): (
                run,
                Counter({Fate(Door(door), code, source): n for door, code, source, n in cell}),
            )
            for topic, part, run, cell in dumped
        }
