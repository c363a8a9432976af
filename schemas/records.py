"""What one block publishes: by column where records differ in a few headers, else one by one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat
from operator import add, itemgetter
from typing import Any, overload

import msgspec
import numpy as np

from schemas.blocks import Origin, OutRecord
from schemas.ticket import Header
from schemas.tickets import Numbers

Extent = dict[tuple[str, int], tuple[int, int]]


class Stamped(msgspec.Struct, gc=False):
    """Records of the events of one block, by column.

    Shapes: `numbers`, `keys`, `values`, `partitions`, `offsets` and each of `columns` have a value
    for every record. `numbers` are indices into `topics` and `labels`: where a record goes, and the
    headers that it has in common with others. `columns` are further headers by name, None where
    one has none; `rests` is empty, or has the last headers of every record. `source` is the
    topic that the offsets are of.
    """

    source: str
    partitions: Numbers
    offsets: Numbers
    topics: list[str]
    labels: list[list[Header]]
    numbers: Numbers
    columns: list[tuple[str, list[bytes | None]]]
    rests: list[tuple[Header, ...]]
    keys: list[bytes | None]
    values: list[bytes | None]

    def __len__(self) -> int:
        return len(self.numbers)

    def as_list(self) -> list[OutRecord]:
        """Each record, made now."""
        numbers = self.numbers.tolist()
        topics = map(self.topics.__getitem__, numbers)
        where = zip(
            repeat(self.source),
            self.partitions.tolist(),
            self.offsets.tolist(),
            repeat(0, len(self)),
            strict=False,  # what is the same for all is repeated without end
        )
        origins = map(tuple.__new__, repeat(Origin), where)
        records = zip(topics, self.keys, self.values, self._headers(numbers), origins, strict=True)
        return list(map(tuple.__new__, repeat(OutRecord), records))

    def _headers(self, numbers: list[int]) -> list[list[Header]]:
        labels = map(self.labels.__getitem__, numbers)
        whole = all(None not in cells for _, cells in self.columns)
        rows: Iterable[tuple[Header, ...]] = zip(
            *(zip(repeat(name), cells, strict=False) for name, cells in self.columns), strict=True
        )
        if not self.columns:
            rows = repeat((), len(self))
        found = list(map(add, labels, map(list, rows)))
        if not whole:
            found = [[pair for pair in headers if pair[1] is not None] for headers in found]
        return list(map(add, found, map(list, self.rests))) if self.rests else found


class Records(Sequence[OutRecord]):
    """All that a block publishes: what is stamped comes first. Single records are made anew."""

    def __init__(self, stamped: Stamped | None, singles: list[OutRecord]) -> None:
        self.stamped = stamped
        self.singles = singles

    def as_list(self) -> list[OutRecord]:
        """Each record, made now."""
        return [*(self.stamped.as_list() if self.stamped else ()), *self.singles]

    def __len__(self) -> int:
        return (len(self.stamped) if self.stamped else 0) + len(self.singles)

    def __iter__(self) -> Iterator[OutRecord]:
        return iter(self.as_list())

    @overload
    def __getitem__(self, place: int) -> OutRecord: ...
    @overload
    def __getitem__(self, place: slice) -> list[OutRecord]: ...
    def __getitem__(self, place: Any) -> Any:
        return self.as_list()[place]

    def __eq__(self, other: object) -> bool:
        return self.as_list() == (other.as_list() if isinstance(other, Records) else other)

    __hash__ = None  # type: ignore[assignment] # what it holds may change


def count_topics(records: Sequence[OutRecord]) -> Counter[str]:
    """How many records go to each topic."""
    if not isinstance(records, Records):
        return Counter(map(itemgetter(0), records))
    counts = Counter(map(itemgetter(0), records.singles))
    if records.stamped:
        topics = records.stamped.topics
        found = np.bincount(records.stamped.numbers, minlength=len(topics)).tolist()
        for topic, count in zip(topics, found, strict=True):
            if count:
                counts[topic] += count
    return counts


def extent_of(records: Sequence[OutRecord]) -> Extent:
    """The first and the last offset that these come from, by (topic, partition)."""
    found: Extent = {}
    for record in records.singles if isinstance(records, Records) else records:
        topic, partition, offset, _ = record.origin
        low, high = found.get((topic, partition), (offset, offset))
        found[topic, partition] = (min(low, offset), max(high, offset))
    stamped = records.stamped if isinstance(records, Records) else None
    if stamped:
        for part in np.unique(stamped.partitions).tolist():
            offsets = stamped.offsets[stamped.partitions == part]
            first, last = int(offsets.min()), int(offsets.max())
            low, high = found.get((stamped.source, part), (first, last))
            found[stamped.source, part] = (min(low, first), max(high, last))
    return found
