"""Keep the books: how many messages of each partition left by which door, and why.

A cell is a run of offsets of one partition. Offsets only rise, so a cell is complete once they
have passed it, and its counts are absolute: writing them again changes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from math import prod
from typing import Any, Final, NamedTuple

import numpy as np

from flows.steps.write_facts import Accepted, Refused
from schemas.blocks import Rows
from schemas.codes import CODES, Door
from schemas.few import are_few
from schemas.tickets import Numbers

RUN: Final = 10_000
"""Offsets in one cell."""

_CELLS_MAX: Final = 1 << 16
"""So many kinds of rows are counted in an array; more are seldom, and then most have no row."""


class Fate(NamedTuple):
    """Why a message left as it did, and who sent it; the code is empty for a routed one."""

    code: str
    source: str

    @property
    def door(self) -> Door:
        """The door, which follows from the code."""
        return CODES[self.code].door if self.code else Door.ROUTED


_DOORS: Final = {code: Fate(code, "").door.value for code in ("", *CODES)}

Tally = Counter[tuple[int, int, str, str]]
"""Messages of one topic by (partition, run of offsets, code, source)."""


def tally_of(events: Accepted, refused: Sequence[Refused]) -> Tally:
    """Count the messages of a block by partition, run of offsets, code and source."""
    tally: Tally = Counter()
    labels = events.tickets.labels
    parts, runs = events.partitions, events.offsets // RUN
    for (part, run, number), count in _count_alike(parts, runs, events.tickets.numbers):
        tally[part, run, "", labels[number].source] += count
    for message in refused:
        origin = message.origin
        tally[origin.partition, origin.offset // RUN, message.refusal.code, message.source] += 1
    return tally


def _count_alike(*columns: Numbers) -> Iterable[tuple[tuple[int, ...], int]]:
    """The rows that occur, and how often each does. Shapes: columns of equal length."""
    if not are_few(columns[0]):
        lowest = [int(column.min()) for column in columns]
        sizes = [int(column.max()) - low + 1 for column, low in zip(columns, lowest, strict=True)]
        if prod(sizes) <= _CELLS_MAX:
            moved = [column - low for column, low in zip(columns, lowest, strict=True)]
            counts = np.bincount(np.ravel_multi_index(moved, sizes))
            found = np.flatnonzero(counts)
            rows = zip(*np.unravel_index(found, sizes), strict=True)
            named = [
                tuple(int(at) + low for at, low in zip(row, lowest, strict=True)) for row in rows
            ]
            return zip(named, counts[found].tolist(), strict=True)
    return Counter(zip(*(column.tolist() for column in columns), strict=True)).items()


class Ledger:
    """The open cell of every partition of a lane. State: one counter each, bounded by `RUN`."""

    def __init__(self) -> None:
        self._cells: dict[tuple[str, int], tuple[int, Counter[Fate]]] = {}

    def enter(self, topic: str, tally: Tally, *, lane: int) -> Rows:
        """Enter a block's messages; the cells that changed come back, as rows of `fates`."""
        changed: dict[tuple[int, int, Fate], int] = {}
        for (partition, run, code, source), count in sorted(tally.items()):
            cell = self._cells.get((topic, partition))
            if cell is None or cell[0] != run:
                cell = self._cells[topic, partition] = (run, Counter())
            fate = Fate(code, source)
            cell[1][fate] += count
            changed[partition, run, fate] = cell[1][fate]
        keys = list(changed)
        counts = list(changed.values())
        columns: dict[str, Any] = {
            "topic": [topic] * len(keys),
            "part": [key[0] for key in keys],
            "run": [key[1] for key in keys],
            "door": [_DOORS[key[2].code] for key in keys],
            "code": [key[2].code for key in keys],
            "source": [key[2].source for key in keys],
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
        self._cells = {
            (topic, part): (run, Counter({Fate(code, source): n for code, source, n in cell}))
            for topic, part, run, cell in dumped
        }
