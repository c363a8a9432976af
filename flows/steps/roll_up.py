"""Roll up accepted events per minute of event time, as absolute values with a version.

A cell's row carries how many events are folded into it; the table keeps the row with the
greatest version, so writing a cell again, or an older state of it, changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heapify, heappop, heappush
from itertools import compress, repeat
from operator import attrgetter, is_
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from schemas.blocks import Rows
from schemas.columns import distinct
from schemas.errors import PermanentError
from schemas.few import are_few
from schemas.rollup import HISTOGRAM_BUCKETS, MINUTE_MS, Dimensions
from schemas.tickets import same

_DIMENSION_BITS: Final = 24
_DIMENSION_MASK: Final = (1 << _DIMENSION_BITS) - 1
_CODE_BITS: Final = 51  # minutes until 2225, and the number of dimensions
_FIRST_ROWS: Final = 1_024
_ONE: Final = np.int64(1)
GENERATION_BITS: Final = 40
"""The version of a row is `generation << 40 | events folded in`."""

Codes = npt.NDArray[np.int64]

_COLUMNS: Final = {
    "event_type": attrgetter("event_type"),
    "campaign": attrgetter("campaign"),
    "channel": attrgetter("channel"),
    "arm": attrgetter("arm"),
    "class": attrgetter("class_text"),
    "currency": attrgetter("currency"),
}


class Rollup:
    """The open cells of one lane: a code (minute and dimensions) → a row of three slabs.

    Units: amounts in minor units of the currency; latencies in milliseconds.
    State: cells from the oldest minute that late events may still correct, `cells_max` at the
    most; `drop_before` frees the older ones, and their rows and numbers are used again.
    Errors: PermanentError for one cell more: what it counts may not be left out.
    """

    def __init__(self, cells_max: int = 1_000_000) -> None:
        self._cells_max = cells_max
        self._numbers: dict[Dimensions, int] = {}
        self._dimensions: list[Dimensions | None] = []
        self._uses: list[int] = []
        # The smallest one first, so that a lane numbers alike whether it was resumed or not.
        self._spare: list[int] = []
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
        """The small number that stands for these dimensions in codes while a cell has them."""
        number = self._numbers.get(dimensions)
        if number is not None:
            return number
        if self._spare:
            number = heappop(self._spare)
            self._dimensions[number] = dimensions
        else:
            number = len(self._dimensions)
            self._dimensions.append(dimensions)
            self._uses.append(0)
        self._numbers[dimensions] = number
        return number

    def numbers_of(self, dimensions: Sequence[Dimensions]) -> list[int]:
        """The numbers of many: those that are known are found without a loop."""
        found = list(map(self._numbers.get, dimensions))
        for at in _missing(found):
            found[at] = self.number_of(dimensions[at])
        return found  # type: ignore[return-value] # none is missing any more

    def _release(self, number: int) -> None:
        dimensions = self._dimensions[number]
        if dimensions is not None:
            del self._numbers[dimensions]
            self._dimensions[number] = None
        heappush(self._spare, number)

    def add(
        self,
        *,
        minutes: Sequence[int] | Codes,
        numbers: Sequence[int] | Codes,
        amounts: Sequence[int] | Codes,
        buckets: Sequence[int] | Codes,
        recorded: Sequence[int] | Codes,
    ) -> Codes:
        """Fold a block's events in; the codes of the cells that changed come back, each once.

        Shapes: five columns of equal length; minutes since 1970, numbers from `number_of`,
        `recorded` the record times in milliseconds.
        """
        codes: Codes = np.array(minutes, np.int64) << _DIMENSION_BITS
        codes |= np.array(numbers, np.int64)
        changed, inverse = distinct(codes)
        rows = self._rows_of(changed.tolist())
        places = rows[inverse]
        self._fold(places, *(np.array(part, np.int64) for part in (amounts, buckets, recorded)))
        return changed

    def _fold(self, places: Codes, amounts: Codes, buckets: Codes, recorded: Codes) -> None:
        if are_few(places):
            columns = (places, amounts, buckets, recorded)
            for row, amount, bucket, at_ms in zip(*(one.tolist() for one in columns), strict=True):
                self._count[row] += 1
                self._amount[row] += amount
                self._latency[row, bucket] += 1
                self._recorded[row] = max(self._recorded[row], at_ms)
            return
        np.add.at(self._count, places, _ONE)
        np.add.at(self._amount, places, amounts)
        np.add.at(self._latency.reshape(-1), places * HISTOGRAM_BUCKETS + buckets, _ONE)
        np.maximum.at(self._recorded, places, recorded)

    def _rows_of(self, codes: list[int]) -> Codes:
        """The row of each of these cells; those that are not open yet are opened."""
        rows = list(map(self._rows.get, codes))
        for at in _missing(rows):
            rows[at] = self._open(codes[at])
        return np.array(rows, np.int64)

    def _open(self, code: int) -> int:
        if len(self._rows) >= self._cells_max:
            raise self._full()
        row = self._free.pop() if self._free else len(self._rows)
        if row >= len(self._count):
            self._grow()
        self._rows[code] = row
        self._uses[code & _DIMENSION_MASK] += 1
        return row

    def _full(self) -> PermanentError:
        return PermanentError(
            do="open",
            kind="rollup cell",
            found=f"{len(self._rows)} open ones with {len(self._numbers)} sets of dimensions",
            expected=f"at most {self._cells_max} in a lane (AIRSIDE_TIME__ROLLUP_CELLS_MAX)",
            hint="look in rollup_1m for a campaign that is new in every event; else raise the "
            "bound, at about 500 bytes each, or shorten AIRSIDE_TIME__LATENESS_S_MAX",
        )

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
            number = code & _DIMENSION_MASK
            self._uses[number] -= 1
            if not self._uses[number]:
                self._release(number)

    def rows(self, codes: Codes, *, lane: int, generation: int = 0) -> Rows:
        """The current absolute values of these cells, as rows of `rollup_1m_lanes`."""
        rows = np.array(list(map(self._rows.__getitem__, codes.tolist())), np.int64)
        found = list(map(self._dimensions.__getitem__, (codes & _DIMENSION_MASK).tolist()))
        columns: dict[str, Any] = {
            "w": (codes >> _DIMENSION_BITS) * MINUTE_MS,
            **{name: list(map(of, found)) for name, of in _COLUMNS.items()},
            "lane": same(lane, len(codes), np.uint16),
            "late": np.zeros(len(codes), np.uint64),
            "n": self._count[rows],
            "amount_minor": self._amount[rows],
            "latency_hist": self._latency[rows],
            "recorded_at": self._recorded[rows],
            "ver": (self._count[rows] + (generation << GENERATION_BITS)).astype(np.uint64),
        }
        return Rows("rollup_1m_lanes", len(codes), columns, codes | lane << _CODE_BITS)

    def dump(self) -> dict[str, Any]:
        """A copy as flat bytes, for a snapshot."""
        rows = np.array(list(self._rows.values()), np.int64)
        return {
            "dimensions": self._dump_dimensions(),
            "code": np.array(list(self._rows), np.int64).tobytes(),
            "count": self._count[rows].tobytes(),
            "amount": self._amount[rows].tobytes(),
            "latency": self._latency[rows].tobytes(),
            "recorded": self._recorded[rows].tobytes(),
        }

    def _dump_dimensions(self) -> list[list[str] | None]:
        """By number, without the spare ones at the end: a burst is not in all later snapshots."""
        count = max(self._numbers.values(), default=-1) + 1
        return [None if dim is None else list(dim) for dim in self._dimensions[:count]]

    def load(self, dumped: dict[str, Any]) -> None:
        """Take back what `dump` gave."""
        codes = np.frombuffer(dumped["code"], np.int64).tolist()
        self._load_dimensions(dumped["dimensions"], codes)
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

    def _load_dimensions(self, dumped: list[list[str] | None], codes: list[int]) -> None:
        """Number the dimensions as before; those that no cell has are spare."""
        self._uses = [0] * len(dumped)
        for code in codes:
            self._uses[code & _DIMENSION_MASK] += 1
        used = [parts if count else None for parts, count in zip(dumped, self._uses, strict=True)]
        self._dimensions = [None if parts is None else Dimensions(*parts) for parts in used]
        pairs = enumerate(self._dimensions)
        self._numbers = {dim: number for number, dim in pairs if dim is not None}
        self._spare = [number for number, dim in enumerate(self._dimensions) if dim is None]
        heapify(self._spare)


def _missing(found: Sequence[int | None]) -> list[int]:
    """The places of None."""
    if None not in found:
        return []
    return list(compress(range(len(found)), map(is_, found, repeat(None))))
