"""Roll up accepted events per minute of event time, as absolute values with a version.

A cell's row carries how many events are folded into it; the table keeps the row with the
greatest version, so writing a cell again, or an older state of it, changes nothing.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from schemas.blocks import Rows
from schemas.rollup import HISTOGRAM_BUCKETS, MINUTE_MS, Dimensions

_DIMENSION_BITS: Final = 24
_FIRST_ROWS: Final = 1_024
_ONE: Final = np.int64(1)
GENERATION_BITS: Final = 40
"""The version of a row is `generation << 40 | events folded in`."""

Codes = npt.NDArray[np.int64]


class Rollup:
    """The open cells of one lane: a code (minute and dimensions) → a row of three slabs.

    Units: amounts in minor units of the currency; latencies in milliseconds.
    State: cells from the oldest minute that late events may still correct; `drop_before` frees
    the older ones, and their rows are used again.
    """

    def __init__(self) -> None:
        self._numbers: dict[Dimensions, int] = {}
        self._dimensions: list[Dimensions] = []
        self._rows: dict[int, int] = {}
        self._free: list[int] = []
        self._make_slabs(_FIRST_ROWS)

    def __len__(self) -> int:
        return len(self._rows)

    def _make_slabs(self, rows: int) -> None:
        self._count = np.zeros(rows, np.int64)
        self._amount = np.zeros(rows, np.int64)
        self._latency = np.zeros((rows, HISTOGRAM_BUCKETS), np.int64)
        self._recorded = np.zeros(rows, np.int64)

    def number_of(self, dimensions: Dimensions) -> int:
        """The small number that stands for these dimensions in codes."""
        number = self._numbers.get(dimensions)
        if number is None:
            number = self._numbers[dimensions] = len(self._dimensions)
            self._dimensions.append(dimensions)
        return number

    def add(
        self,
        *,
        minutes: list[int],
        numbers: list[int],
        amounts: list[int],
        buckets: list[int],
        recorded: list[int],
    ) -> Codes:
        """Fold a block's events in; the codes of the cells that changed come back, each once.

        Shapes: five columns of equal length; minutes since 1970, numbers from `number_of`,
        `recorded` the record times in milliseconds.
        """
        codes: Codes = np.array(minutes, np.int64) << _DIMENSION_BITS
        codes |= np.array(numbers, np.int64)
        changed: Codes
        changed, inverse = np.unique(codes, return_inverse=True)
        rows = np.array([self._row_of(code) for code in changed.tolist()], np.int64)
        places = rows[inverse]
        np.add.at(self._count, places, _ONE)
        np.add.at(self._amount, places, np.array(amounts, np.int64))
        flat = places * HISTOGRAM_BUCKETS + np.array(buckets, np.int64)
        np.add.at(self._latency.reshape(-1), flat, _ONE)
        np.maximum.at(self._recorded, places, np.array(recorded, np.int64))
        return changed

    def _row_of(self, code: int) -> int:
        row = self._rows.get(code)
        if row is not None:
            return row
        row = self._free.pop() if self._free else len(self._rows)
        if row >= len(self._count):
            self._grow()
        self._rows[code] = row
        return row

    def _grow(self) -> None:
        self._count = np.concatenate([self._count, np.zeros_like(self._count)])
        self._amount = np.concatenate([self._amount, np.zeros_like(self._amount)])
        self._latency = np.concatenate([self._latency, np.zeros_like(self._latency)])
        self._recorded = np.concatenate([self._recorded, np.zeros_like(self._recorded)])

    def drop_before(self, minute: int) -> None:
        """Forget the cells of earlier minutes; the caller accepts no event of theirs any more."""
        limit = minute << _DIMENSION_BITS
        for code in [code for code in self._rows if code < limit]:
            row = self._rows.pop(code)
            self._count[row] = 0
            self._amount[row] = 0
            self._latency[row] = 0
            self._recorded[row] = 0
            self._free.append(row)

    def rows(self, codes: Codes, *, lane: int, generation: int = 0) -> Rows:
        """The current absolute values of these cells, as rows of `rollup_1m_lanes`."""
        rows = np.array([self._rows[code] for code in codes.tolist()], np.int64)
        numbers = (codes & ((1 << _DIMENSION_BITS) - 1)).tolist()
        dims = [self._dimensions[number] for number in numbers]
        columns: dict[str, Any] = {
            "w": (codes >> _DIMENSION_BITS) * MINUTE_MS,
            "event_type": [dim.event_type for dim in dims],
            "campaign": [dim.campaign for dim in dims],
            "channel": [dim.channel for dim in dims],
            "class": [dim.class_text for dim in dims],
            "currency": [dim.currency for dim in dims],
            "lane": np.full(len(codes), lane, np.uint16),
            "n": self._count[rows],
            "amount_minor": self._amount[rows],
            "latency_hist": self._latency[rows],
            "recorded_at": self._recorded[rows],
            "ver": (self._count[rows] + (generation << GENERATION_BITS)).astype(np.uint64),
        }
        return Rows("rollup_1m_lanes", len(codes), columns)

    def dump(self) -> dict[str, Any]:
        """A copy as flat bytes, for a snapshot."""
        rows = np.array(list(self._rows.values()), np.int64)
        return {
            "dimensions": [list(dim) for dim in self._dimensions],
            "code": np.array(list(self._rows), np.int64).tobytes(),
            "count": self._count[rows].tobytes(),
            "amount": self._amount[rows].tobytes(),
            "latency": self._latency[rows].tobytes(),
            "recorded": self._recorded[rows].tobytes(),
        }

    def load(self, dumped: dict[str, Any]) -> None:
        """Take back what `dump` gave."""
        self._dimensions = [Dimensions(*parts) for parts in dumped["dimensions"]]
        self._numbers = {dim: number for number, dim in enumerate(self._dimensions)}
        codes = np.frombuffer(dumped["code"], np.int64).tolist()
        self._rows = {code: row for row, code in enumerate(codes)}
        self._free = []
        size = max(_FIRST_ROWS, 2 * len(codes))
        self._make_slabs(size)
        self._count[: len(codes)] = np.frombuffer(dumped["count"], np.int64)
        self._amount[: len(codes)] = np.frombuffer(dumped["amount"], np.int64)
        self._latency[: len(codes)] = np.frombuffer(dumped["latency"], np.int64).reshape(
            -1, HISTOGRAM_BUCKETS
        )
        self._recorded[: len(codes)] = np.frombuffer(dumped["recorded"], np.int64)
