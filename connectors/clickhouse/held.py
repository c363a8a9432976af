"""Hold rows whose cells are numbered, the latest of each, before anything is made of them.

A rollup tells the same cell with every block that changes it. Which row replaces which is seen by
a number here, for less than it costs to make the rows that are replaced.
"""

from __future__ import annotations

from itertools import compress
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from schemas.blocks import Coded, Rows

_SLACK: Final = 1_000

Mask = npt.NDArray[np.bool_]


class Held:
    """Rows with `cells`, in the order in which they came; its length counts cells.

    State: at most twice as many rows as cells, and what a block adds.
    """

    def __init__(self) -> None:
        self._parts: list[Rows] = []
        self._cells: set[int] = set()
        self._count = 0

    def __len__(self) -> int:
        return len(self._cells)

    def add(self, rows: Rows) -> None:
        """Take rows, which replace earlier ones of their cells. Shapes: they have `cells`."""
        assert rows.cells is not None
        self._parts.append(rows)
        self._cells.update(rows.cells.tolist())
        self._count += rows.size
        if self._count > 2 * len(self._cells) + _SLACK:
            self._fold()

    def take(self) -> list[Rows]:
        """The latest row of each cell; nothing stays here."""
        self._fold()
        taken = self._parts
        self._parts, self._cells, self._count = [], set(), 0
        return taken

    def _fold(self) -> None:
        if self._count == len(self._cells):
            return
        cells = np.concatenate([part.cells for part in self._parts if part.cells is not None])
        # Backwards, so that the first of each is the latest.
        latest = len(cells) - 1 - np.unique(cells[::-1], return_index=True)[1]
        kept = np.zeros(len(cells), np.bool_)
        kept[latest] = True
        ends = np.cumsum([part.size for part in self._parts])[:-1]
        pairs = zip(self._parts, np.split(kept, ends), strict=True)
        self._parts = [_pick(part, mask) for part, mask in pairs if mask.any()]
        self._count = len(latest)


def _pick(rows: Rows, kept: Mask) -> Rows:
    size = int(kept.sum())
    if size == rows.size:
        return rows
    columns = {name: _pick_of(column, kept) for name, column in rows.columns.items()}
    return Rows(rows.table, size, columns, _pick_of(rows.cells, kept))


def _pick_of(column: Any, kept: Mask) -> Any:
    if isinstance(column, np.ndarray):
        return column[kept]
    if isinstance(column, Coded):
        return Coded(column.words, column.codes[kept])
    return list(compress(column, kept.tolist()))
