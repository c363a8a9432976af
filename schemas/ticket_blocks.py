"""Read the tickets of a whole block by column.

What a column check passes is right; what it does not pass is suspect, and is read again alone by
the reader, which says what is wrong with it. So the two can differ in speed only.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache, reduce
from itertools import count, islice, repeat
from operator import iconcat
from typing import Any, Final, overload

import msgspec
import numpy as np

from schemas.columns import (
    TIME_BYTES_MAX,
    WORD_BYTES_MAX,
    Values,
    are_ids,
    are_names,
    are_plain,
    are_traces,
    parse_times,
    strangers,
    texts,
)
from schemas.fates import Refusal
from schemas.few import are_few
from schemas.hops import HOPS_BYTES_MAX, parse_hops
from schemas.policy import RANK_OF_A_PERSON
from schemas.ticket import LABEL_NAMES, PLAIN_FORMS, Header, Label
from schemas.tickets import NO_LABEL, NO_TIME, Numbers, Tickets, columns_at

LAYOUTS_MAX: Final = 16
"""Header layouts of one block that are read by column; what is left is read one by one."""

RUN: Final = 128
"""Messages whose headers are taken apart at once: as many as the nearest cache holds."""

LabelOf = Callable[[tuple[bytes | None, ...]], Label | Refusal]

_SHARED: Final = frozenset(LABEL_NAMES)


class Group(msgspec.Struct, gc=False):
    """Messages with the same header names in the same order.

    Shapes: `places` in the block, rising; `values` has, by place among the headers, a column for
    each header that is no part of a label. What a label is made of stands at `shared` and recurs:
    each combination once in `parts`, by the numbers of `codes`; `numbers` has every message's.
    """

    names: tuple[str, ...]
    shared: tuple[int, ...]
    values: dict[int, list[bytes | None]]
    places: list[int] = []
    numbers: list[int] = []
    parts: list[tuple[bytes | None, ...]] = []
    codes: dict[tuple[bytes | None, ...], int] = msgspec.field(
        default_factory=lambda: defaultdict(count().__next__)
    )

    @classmethod
    def of(cls, names: tuple[str, ...]) -> Group:
        """A group without messages yet."""
        full = [PLAIN_FORMS.get(name, name) for name in names]
        shared = tuple(at for at, name in enumerate(full) if name in _SHARED)
        return cls(names, shared, {at: [] for at in range(len(names)) if at not in shared})

    def add(self, places: Sequence[int], flat: list[Any]) -> None:
        """Add messages. Shapes: `flat` has the name and the value of each header by turns."""
        step = 2 * len(self.names)
        self.places += places
        for at, values in self.values.items():
            values.extend(flat[2 * at + 1 :: step])
        shared = [flat[2 * at + 1 :: step] for at in self.shared]
        parts = zip(*shared, strict=True) if shared else repeat((), len(places))
        self.numbers += map(self.codes.__getitem__, parts)
        if len(self.codes) > len(self.parts):
            self.parts += islice(self.codes, len(self.parts), None)

    def headers_at(self, place: int) -> list[Header] | None:
        """The headers of the message at a place of the block; None where it is not one of ours."""
        at = bisect_left(self.places, place)
        if at == len(self.places) or self.places[at] != place:
            return None
        cells = dict(zip(self.shared, self.parts[self.numbers[at]], strict=True))
        cells |= {header: values[at] for header, values in self.values.items()}
        return [(name, cells[header]) for header, name in enumerate(self.names)]

    def rows(self) -> Iterator[tuple[bytes | None, ...]]:
        """The values of each message, in the order of their names."""
        columns: dict[int, Iterable[bytes | None]] = {**self.values}
        for at, header in enumerate(self.shared):
            columns[header] = [self.parts[number][at] for number in self.numbers]
        return zip(*(columns[header] for header in range(len(self.names))), strict=True)


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
            places = (found + first).tolist()
            if not length:
                self.alone += places
            else:
                self._take_run(places, columns_at(found.tolist(), len(rows))(rows))

    def _take_run(self, places: list[int], rows: list[Any]) -> None:
        """Take messages with equally many headers, which mostly have the same names."""
        length = len(rows[0])
        flat = _flat(rows)
        usual = self._usual.get(length)
        if usual is None:
            usual = self._usual[length] = tuple(flat[: 2 * length : 2])
        if flat[::2] == list(usual) * len(rows):
            self._add(usual, places, flat)
            return
        by_names: dict[tuple[str, ...], list[int]] = {}
        for at, row in enumerate(rows):
            by_names.setdefault(tuple([name for name, _ in row]), []).append(at)
        for names, same in by_names.items():
            self._add(names, [places[at] for at in same], _flat([rows[at] for at in same]))
        self._usual[length] = max(by_names, key=lambda names: len(by_names[names]))

    def _add(self, names: tuple[str, ...], places: list[int], flat: list[Any]) -> None:
        found = self.groups.get(names)
        if found is None:
            if len(self.groups) >= LAYOUTS_MAX:
                self.alone += places
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


class Reading:
    """One group on its way from headers to tickets: its columns, and which places are suspect.

    Units: `bytes_max` is the most that the values read so far can have together in one message.
    """

    def __init__(self, found: Group, places: Mapping[str, int]) -> None:
        self._found, self._places = found, places
        own = [(name, place) for name, place in places.items() if name not in _SHARED]
        self._columns = {name: found.values[place] for name, place in own}
        self._size = len(found.places)
        self.suspects: set[int] = set()
        self.bytes_max = 0
        for values in self._columns.values():
            if not all(values):  # quicker than a search for null
                self.suspects.update(at for at, value in enumerate(values) if value is None)

    def _longest(self, name: str) -> int:
        return max(map(len, filter(None, self._columns.get(name, ()))), default=0)

    def words(
        self, name: str, fits: Callable[[Values], bool], bytes_max: int = WORD_BYTES_MAX
    ) -> list[str]:
        """A column of texts; empty where there is none, or a suspect one."""
        values = self._columns.get(name)
        if values is None:
            return [""] * self._size
        self.bytes_max += bytes_max
        strange = strangers(values, fits)
        if strange:
            self.suspects.update(strange)
            values = list(values)
            for place in strange:
                values[place] = b""
        return texts(values)

    def times(self, name: str) -> Numbers:
        """A column of times; `NO_TIME` where there is none, or a suspect one."""
        values = self._columns.get(name)
        if values is None:
            return np.full(self._size, NO_TIME, np.int64)
        self.bytes_max += TIME_BYTES_MAX
        found = parse_times(values)
        self.suspects.update(np.flatnonzero(found == NO_TIME).tolist())
        return found

    def hops(self) -> list[str]:
        """The histories; those that are not in the grammar are suspect."""
        found = self.words("ce_datahops", are_plain, HOPS_BYTES_MAX)
        if "ce_datahops" in self._columns:
            wrong = {text for text in set(found) if not _are_hops(text)}
            if wrong:
                self.suspects.update(at for at, text in enumerate(found) if text in wrong)
        return found

    def traces(self) -> tuple[list[bytes | None], list[bytes | None]]:
        """Parents and states of traces. W3C: one that cannot be read is not passed on."""
        parents, states = self.plain("traceparent"), self.plain("tracestate")
        if "traceparent" not in self._columns:
            return parents, [None] * self._size
        for place in strangers(parents, are_traces):
            parents[place] = states[place] = None
        return parents, states

    def plain(self, name: str) -> list[bytes | None]:
        """A column of bytes as it is."""
        values = self._columns.get(name)
        if values is None:
            return [None] * self._size
        self.bytes_max += self._longest(name)
        return list(values)

    def labels(self, names: Sequence[str], label_of: LabelOf) -> tuple[list[Label], Numbers]:
        """The labels, each once, and the number of each message's; refused ones are suspect."""
        labels: list[Label] = []
        numbers: list[int] = []
        longest = 0
        order = [self._places.get(name) for name in names]
        for part in self._found.parts:
            numbers.append(NO_LABEL)
            if None in part:
                continue
            given = dict(zip(self._found.shared, part, strict=True))
            label = label_of(tuple(None if place is None else given[place] for place in order))
            longest = max(longest, sum(len(value or b"") for value in part))
            if not isinstance(label, Refusal) and not self._lacks_subject(label):
                numbers[-1] = len(labels)
                labels.append(label)
        self.bytes_max += longest
        found = np.array(numbers, np.int64)[self._found.numbers]
        self.suspects.update(np.flatnonzero(found == NO_LABEL).tolist())
        return labels, found

    def _lacks_subject(self, label: Label) -> bool:
        return label.decision.rank >= RANK_OF_A_PERSON and "ce_subject" not in self._columns

    def tickets(self, names: Sequence[str], label_of: LabelOf) -> Tickets:
        """The tickets; those at suspect places mean nothing."""
        labels, numbers = self.labels(names, label_of)
        parents, states = self.traces()
        return Tickets(
            labels=labels,
            numbers=numbers,
            ids=self.words("ce_id", are_ids),
            times_ms=self.times("ce_time"),
            correlations=self.words("ce_correlationid", are_names),
            subjects=self.words("ce_subject", are_names),
            causations=self.words("ce_causationid", are_names),
            hops=self.hops(),
            recorded_ms=self.times("ce_recordedtime"),
            expiry_ms=self.times("ce_expirytime"),
            traceparents=parents,
            tracestates=states,
            macs=self.plain("ce_ticketmac"),
            rests=[()] * self._size,
        )


@lru_cache(maxsize=8_192)
def _are_hops(text: str) -> bool:
    return not isinstance(parse_hops(text), Refusal)
