"""Take the headers of a block apart, run by run, while each run is in the nearest caches."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import reduce
from itertools import chain, compress, count, islice, repeat
from operator import iconcat, ne
from typing import Any, Final, overload

import msgspec
import numpy as np

from schemas.columns import Values, join, split
from schemas.few import are_few
from schemas.ticket import LABEL_NAMES, PLAIN_FORMS, Header
from schemas.tickets import Numbers, columns_at

LAYOUTS_MAX: Final = 16
"""Header layouts of one block that are read by column; what is left is read one by one."""

RUN: Final = 128
"""Messages whose headers are taken apart at once: as many as the nearest cache holds."""

_SHARED: Final = frozenset(LABEL_NAMES)

Part = tuple[bytes | None, ...]


class Group(msgspec.Struct, gc=False):
    """Messages with the same header names in the same order, run by run.

    Shapes: `places` has an array for each run, the places of its messages in the block, rising;
    `ends` the messages up to its end. `values` has, by place among the headers, what each run has
    under a header that is no part of a label: all values joined, else a list. What a label is
    made of stands at `shared` and recurs: each combination once in `parts`, by the numbers of
    `codes`, and `numbers` has an array of these for each run.
    """

    names: tuple[str, ...]
    shared: tuple[int, ...]
    values: dict[int, list[bytes | Values]]
    places: list[Numbers] = []
    ends: list[int] = []
    numbers: list[Numbers] = []
    parts: list[Part] = []
    codes: dict[Part, int] = msgspec.field(default_factory=lambda: defaultdict(count().__next__))

    @classmethod
    def of(cls, names: tuple[str, ...]) -> Group:
        """A group without messages yet."""
        full = [PLAIN_FORMS.get(name, name) for name in names]
        shared = tuple(at for at, name in enumerate(full) if name in _SHARED)
        return cls(names, shared, {at: [] for at in range(len(names)) if at not in shared})

    def __len__(self) -> int:
        return self.ends[-1] if self.ends else 0

    def add(self, places: Numbers, flat: list[Any]) -> None:
        """Add a run. Shapes: `flat` has the name and the value of each header by turns."""
        step = 2 * len(self.names)
        self.places.append(places)
        self.ends.append(len(self) + len(places))
        for at, runs in self.values.items():
            values = flat[2 * at + 1 :: step]
            joined = join(values)
            runs.append(values if joined is None else joined)
        shared = [flat[2 * at + 1 :: step] for at in self.shared]
        parts = zip(*shared, strict=True) if shared else repeat((), len(places))
        codes = map(self.codes.__getitem__, parts)
        self.numbers.append(np.fromiter(codes, np.int64, len(places)))
        if len(self.codes) > len(self.parts):
            self.parts += islice(self.codes, len(self.parts), None)

    def joined(self, header: int) -> bytes | None:
        """The values under a header, joined by line feeds; None where they cannot be."""
        try:
            return b"\n".join(self.values[header])  # type: ignore[arg-type] # it refuses a list
        except TypeError:
            return None

    def column(self, header: int) -> list[bytes | None]:
        """The values under a header."""
        joined = self.joined(header)
        if joined is not None:
            return [*split(joined)]
        return list(chain.from_iterable(map(_values_of, self.values[header])))

    def nulls(self, header: int) -> list[int]:
        """Which values under a header are null."""
        if self.joined(header) is not None:
            return []
        return [at for at, value in enumerate(self.column(header)) if value is None]

    def headers_at(self, place: int) -> list[Header] | None:
        """The headers of the message at a place of the block; None where it is not one of ours."""
        run = bisect_right(self.places, place, key=_first_of) - 1
        places = self.places[run]
        at = int(np.searchsorted(places, place))
        if run < 0 or at == len(places) or places[at] != place:
            return None
        part = self.parts[self.numbers[run][at]]
        cells: dict[int, bytes | None] = dict(zip(self.shared, part, strict=True))
        for header, runs in self.values.items():
            cells[header] = _values_of(runs[run])[at]
        return [(name, cells[header]) for header, name in enumerate(self.names)]

    def rows(self) -> Iterator[Part]:
        """The values of each message, in the order of their names."""
        columns: dict[int, Iterable[bytes | None]] = {at: self.column(at) for at in self.values}
        parts = [self.parts[number] for number in np.concatenate(self.numbers).tolist()]
        for at, header in enumerate(self.shared):
            columns[header] = [part[at] for part in parts]
        return zip(*(columns[header] for header in range(len(self.names))), strict=True)


def _first_of(places: Numbers) -> int:
    return int(places[0])


def _values_of(run: bytes | Values) -> Values:
    return split(run) if isinstance(run, bytes) else run


class Grouping:
    """Takes the headers of a block apart, run by run; `alone` are the places of the others."""

    def __init__(self) -> None:
        self.groups: dict[tuple[str, ...], Group] = {}
        self.alone: list[int] = []
        self._usual: dict[int, tuple[str, ...]] = {}

    def take(self, headers: Sequence[Sequence[Header] | None]) -> None:
        """Take all headers of a block."""
        for first in range(0, len(headers), RUN):
            self.take_run(first, headers[first : first + RUN])

    def take_run(self, first: int, run: Sequence[Sequence[Header] | None]) -> None:
        """Take the headers of some messages, the first of which stands at this place."""
        if are_few(run):
            self.alone += range(first, first + len(run))
            return
        rows: list[Any] = [*run]
        try:
            lengths = np.fromiter(map(len, rows), np.int64, len(rows))
        except TypeError:  # a message without a list of headers
            rows = [pairs or () for pairs in rows]
            lengths = np.fromiter(map(len, rows), np.int64, len(rows))
        for length in sorted(set(lengths.tolist())):
            found = np.flatnonzero(lengths == length)
            if not length:
                self.alone += (found + first).tolist()
            else:
                self._take_run(found + first, columns_at(found.tolist(), len(rows))(rows))

    def _take_run(self, places: Numbers, rows: list[Any]) -> None:
        """Take messages with equally many headers, which mostly have the same names."""
        length = len(rows[0])
        flat = _flat(rows)
        usual = self._usual.get(length)
        if usual is None:
            usual = self._usual[length] = tuple(flat[: 2 * length : 2])
        names, expected = flat[::2], list(usual) * len(rows)
        if names == expected:
            self._add(usual, places, flat)
            return
        by_names: dict[tuple[str, ...], list[int]] = {usual: []}
        odd = {at // length for at in compress(range(len(names)), map(ne, names, expected))}
        by_names[usual] = [at for at in range(len(rows)) if at not in odd]
        for at in sorted(odd):
            by_names.setdefault(tuple(names[at * length : (at + 1) * length]), []).append(at)
        for found, same in by_names.items():
            if same:
                self._add(found, places[same], _flat([rows[at] for at in same]))
        self._usual[length] = max(by_names, key=lambda found: len(by_names[found]))

    def _add(self, names: tuple[str, ...], places: Numbers, flat: list[Any]) -> None:
        found = self.groups.get(names)
        if found is None:
            if len(self.groups) >= LAYOUTS_MAX:
                self.alone += places.tolist()
                return
            found = self.groups[names] = Group.of(names)
        found.add(places, flat)


def _flat(rows: Iterable[Iterable[Header]]) -> list[Any]:
    """The name and the value of each header, by turns: a list grows by a tuple without a loop."""
    pairs: list[Header] = reduce(iconcat, rows, [])
    return reduce(iconcat, pairs, [])


class TakenHeaders(Sequence[Any]):
    """The headers of a block, taken apart as they were read: each run while it was warm.

    Nobody holds the client's own lists of a run when the next one is read, so all runs are made
    in the same memory, which stays in the nearest caches.
    Shapes: as a sequence, the headers of each message, made again when somebody asks for them.
    It is a plain list in another process.
    """

    def __init__(self) -> None:
        self.grouping: Final = Grouping()
        self._size = 0
        self._alone: dict[int, Sequence[Header] | None] = {}

    def add_run(self, run: Sequence[Sequence[Header] | None]) -> None:
        """Add the headers of the next messages."""
        alone, first = self.grouping.alone, self._size
        known = len(alone)
        self.grouping.take_run(first, run)
        self._alone |= {place: run[place - first] for place in alone[known:]}
        self._size += len(run)

    def __len__(self) -> int:
        return self._size

    @overload
    def __getitem__(self, place: int) -> Any: ...
    @overload
    def __getitem__(self, place: slice) -> list[Any]: ...
    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return [self[at] for at in range(self._size)[place]]
        place = range(self._size)[place]
        for found in self.grouping.groups.values():
            headers = found.headers_at(place)
            if headers is not None:
                return headers
        return self._alone[place]

    def __eq__(self, other: object) -> bool:
        return list(self) == (list(other) if isinstance(other, TakenHeaders) else other)

    __hash__ = None  # type: ignore[assignment] # more may be added

    def __reduce__(self) -> tuple[Any, ...]:
        """What was taken apart does not travel."""
        return list, (list(self),)


def grouping_of(headers: Sequence[Sequence[Header] | None]) -> Grouping:
    """The headers of a block taken apart, now or as they were read."""
    if isinstance(headers, TakenHeaders):
        return headers.grouping
    grouping = Grouping()
    grouping.take(headers)
    return grouping
