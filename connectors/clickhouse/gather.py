"""Put the rows of small blocks together before they become Arrow batches.

A batch costs about as much for one row as for a hundred: some forty columns, each converted by
calls of its own. So few rows wait, as Python values, until there are enough or somebody asks.
Small blocks also tell the same cell again and again: of tables with a key, one row a key is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa

from connectors.clickhouse.held import Held
from connectors.clickhouse.tables import Table
from schemas.blocks import Coded, Rows

APART_MIN: Final = 200
"""Rows of a block from which they are a batch of their own."""

TOGETHER_MAX: Final = 1_000
"""Rows that wait together at most, and what a block adds."""


class Part(NamedTuple):
    """Rows of one table on their way: Arrow batches, and what is not yet one.

    Promise: nothing of it changes any more, so another thread may turn it into Arrow.
    """

    table: Table
    bound: Sequence[pa.RecordBatch]
    loose: Rows | None = None

    @property
    def num_rows(self) -> int:
        """How many."""
        bound: int = sum(batch.num_rows for batch in self.bound)
        return bound + (self.loose.size if self.loose else 0)

    def batches(self) -> list[pa.RecordBatch]:
        """All of it as Arrow batches."""
        return [*self.bound, *([to_batch(self.loose, self.table)] if self.loose else [])]


class Gathered:
    """Rows of one table, in the order in which they came; with a key, the latest row of each.

    Its length counts rows that are not yet known to be replaced, too; `batches` leaves none.
    State: copies of the values of less than `TOGETHER_MAX` rows and a block's, beside batches and
    what is held by its cells.
    """

    def __init__(self, table: Table) -> None:
        self.table = table
        self._batches: list[pa.RecordBatch] = []
        self._in_batches = 0
        self._loose: dict[str, list[Any]] = {}
        self._loose_count = 0
        self._held = Held()

    def __len__(self) -> int:
        return self._in_batches + self._loose_count + len(self._held)

    def add(self, rows: Rows) -> None:
        """Take rows; their columns may change afterwards, but for those with cells."""
        if rows.size >= APART_MIN:
            if rows.cells is not None:
                self._held.add(rows)
            else:
                self.put(to_batch(rows, self.table))
            return
        if not self._loose:
            self._loose = {name: [] for name in self.table.schema.names}
        for name, column in self._loose.items():
            column.extend(_values(rows.columns[name]))
        self._loose_count += rows.size
        if self._loose_count >= TOGETHER_MAX:
            self._bind_loose()

    def put(self, batch: pa.RecordBatch) -> None:
        """Take rows that are a batch already."""
        self._bind_loose()
        self._append(batch)

    def _append(self, batch: pa.RecordBatch) -> None:
        self._batches.append(batch)
        self._in_batches += batch.num_rows

    def batches(self) -> list[pa.RecordBatch]:
        """All rows; they stay here."""
        self._bind_held()
        self._bind_loose()
        if self.table.key and len(self._batches) > 1:
            self._batches = [latest(pa.Table.from_batches(self._batches), self.table)]
            self._in_batches = self._batches[0].num_rows
        return list(self._batches)

    def take(self) -> Part:
        """All rows, of few those that are loose as they are; nothing stays here."""
        held = self._batches or self._held
        loose = None if self.table.key and held else self._take_loose()
        part = Part(self.table, self.batches(), loose)
        self._batches, self._in_batches = [], 0
        return part

    def _take_loose(self) -> Rows | None:
        if not self._loose_count:
            return None
        rows = Rows("", self._loose_count, self._loose)
        self._loose, self._loose_count = {}, 0
        return _latest_loose(rows, self.table.key)

    def _bind_held(self) -> None:
        parts = [to_batch(rows, self.table) for rows in self._held.take()]
        if parts:
            self._append(pa.Table.from_batches(parts).combine_chunks().to_batches()[0])

    def _bind_loose(self) -> None:
        rows = self._take_loose()
        if rows is not None:
            self._append(to_batch(rows, self.table))


def is_enough(gathered: Iterable[Gathered], rows_max: int) -> bool:
    """Whether so many rows are still more than half as many without those that were replaced.

    Half, since a look costs as much as all rows: it has to pay for the rows until the next one.
    """
    left: int = sum(batch.num_rows for one in gathered for batch in one.batches())
    return 2 * left > rows_max


def latest(rows: pa.Table, table: Table) -> pa.RecordBatch:
    """One row for each key: the one with the greatest version."""
    names = list(table.key)
    # By version, and equal ones as they came; only the keys are put in that order.
    order = pa.array(np.argsort(rows["ver"].to_numpy(), kind="stable"))
    keys = rows.select(names).take(order).append_column("row", order)
    last = keys.group_by(names, use_threads=False)
    places = last.aggregate([("row", "last")])["row_last"]
    taken = rows.take(places).combine_chunks()
    return taken.to_batches()[0]


def _latest_loose(rows: Rows, key: tuple[str, ...]) -> Rows:
    """The same of Python values, where Arrow's fixed costs would be most of it."""
    if not key:
        return rows
    keys = list(zip(*(rows.columns[name] for name in key), strict=True))
    order = sorted(range(rows.size), key=rows.columns["ver"].__getitem__)
    last = {keys[place]: place for place in order}
    if len(last) == rows.size:
        return rows
    places = sorted(last.values())
    columns = {name: [column[n] for n in places] for name, column in rows.columns.items()}
    return Rows("", len(places), columns)


def _values(column: Any) -> list[Any]:
    """The values of a column, row by row, none of them a view of what it came from."""
    if isinstance(column, list):
        return column
    if isinstance(column, np.ndarray | Coded):
        return column.tolist()
    return list(column)


def to_batch(rows: Rows, table: Table) -> pa.RecordBatch:
    """Columns of Python or numpy values as one Arrow batch in the table's schema."""
    return pa.RecordBatch.from_arrays(
        [_column(rows.columns[field.name], field.type) for field in table.schema],
        schema=table.schema,
    )


def _column(values: Any, kind: pa.DataType) -> pa.Array:
    if isinstance(values, Coded):
        return _column(values.words, kind).take(pa.array(values.codes))
    if isinstance(values, np.ndarray) and values.ndim == 2:  # noqa: PLR2004 - rows and buckets
        offsets = np.arange(0, values.size + 1, values.shape[1], dtype=np.int32)
        flat = pa.array(values.reshape(-1).astype(np.uint64))
        return pa.ListArray.from_arrays(pa.array(offsets), flat)
    if pa.types.is_temporal(kind):
        values = np.asarray(values, np.int32 if pa.types.is_date32(kind) else np.int64)
    if isinstance(values, np.ndarray):
        return pa.array(values).cast(kind)
    return pa.array(values, kind)
