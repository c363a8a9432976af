"""Records that travel between the steps: blocks of messages, never single ones."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Any, Final, NamedTuple, Self

import msgspec
import numpy as np

from schemas.codes import Door
from schemas.fates import Refusal
from schemas.ticket import Header, Label
from schemas.tickets import Numbers, Tickets

_CODES_MAX: Final = 1 << 62


class RawBlock(msgspec.Struct, gc=False):
    """Messages of one topic in one lane, as they were read: one column for each part of them.

    Units: timestamps (of the Kafka record) and `received_ms` in milliseconds since 1970 UTC.
    Shapes: all columns have the same length; offsets rise within a partition. `quiet` names the
    partitions (topic, number) of the lane that had nothing more to read for a while; `unread`
    tells that others were not read at all yet. All columns may be the memory of a library, where
    a cell is made when somebody asks for it.
    """

    lane: int
    topic: str
    received_ms: int
    partitions: Sequence[int]
    offsets: Sequence[int]
    timestamps: Sequence[int]
    keys: Sequence[bytes | None]
    headers: Sequence[list[Header] | None]
    values: Sequence[bytes | None]
    quiet: tuple[tuple[str, int], ...] = ()
    unread: bool = False


def runs_of(partitions: Sequence[int]) -> list[tuple[int, int, int]]:
    """Neighbours in a block that come from one partition.

    Shapes: the partition, the place of the first of them, and the place behind the last.
    """
    if not len(partitions):
        return []
    numbers = np.array(partitions, np.int64)
    starts = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist()]
    ends = [*starts[1:], len(numbers)]
    return list(zip(numbers[starts].tolist(), starts, ends, strict=True))


class CheckedBlock(msgspec.Struct, gc=False):
    """A raw block with each message's ticket and decoded body, or why it has none.

    Shapes: `tickets` and `bodies` have a place for every message; a refused one has None in
    `bodies` and its reason in `refusals`, keyed by place. The ticket of a refused message is
    kept where it could be read, since its label says how the body must be protected; where it
    could not, `glances` holds what can be told of it.
    """

    raw: RawBlock
    tickets: Tickets
    bodies: Sequence[Any]
    refusals: dict[int, Refusal]
    glances: dict[int, dict[str, str]]


class Notice(NamedTuple):
    """One message of a topic that Airside speaks to itself on: no ticket, a null value removes."""

    partition: int
    offset: int
    key: bytes
    value: bytes | None


class AcceptedBlock(msgspec.Struct, gc=False):
    """Accepted events of one block, one column for each part of them: what followers follow.

    Shapes: all columns have the same length. `topic`, `partitions` and `offsets` say where this
    flow read each event, so they are the origin of what it leads to. Every name of
    `schemas.events.COLUMNS` can be read on a body. `watermark_ms` is the event time that every
    partition of the lane has reached but the quiet ones, 0 before the first; it never goes back.
    `gone` are the subjects whose profile was removed, and `gone_at` where that stands (partition,
    offset). Blocks of the profile topic are given again at each start, before any stream.
    `notices` are messages without a ticket, of topics that pass around the gate; all columns are
    empty then. `refused` counts, by source and code, what the gate before refused of the same
    block; a flow that reads routed topics does not know it.
    Units: milliseconds since 1970 UTC; `recorded_ms` is when the event's first record was made.
    """

    lane: int
    topic: str
    received_ms: int
    watermark_ms: int
    partitions: list[int]
    offsets: list[int]
    labels: list[Label]
    ids: list[str]
    times_ms: list[int]
    recorded_ms: list[int]
    subjects: list[str]
    journeys: list[str]
    causes: list[str]
    hops: list[str]
    zones: list[str]
    bodies: list[Any]
    gone: list[str] = []
    gone_at: list[tuple[int, int]] = []
    notices: list[Notice] = []
    refused: dict[tuple[str, str], int] = {}


ORIGIN_HEADER: Final = "airside-origin"

CONTROL_HEADER: Final = "airside-control"
"""Of a record without a ticket that only ends a transaction; to be left out by who reads it."""


class Origin(NamedTuple):
    """Where an output comes from: one input record, and which of its outputs this is.

    >>> Origin.of(b"ntf.requests.v1/3/17/1")
    Origin(topic='ntf.requests.v1', partition=3, offset=17, ordinal=1)
    """

    topic: str
    partition: int
    offset: int
    ordinal: int = 0

    def __str__(self) -> str:
        """The header form: `topic/partition/offset/ordinal`."""
        return f"{self.topic}/{self.partition}/{self.offset}/{self.ordinal}"

    @classmethod
    def of(cls, header: bytes | None) -> Self | None:
        """What a header says; None where it is none of ours."""
        topic, *numbers = (header or b"").decode("utf-8", "replace").rsplit("/", 3)
        if len(numbers) != len(cls._fields) - 1 or not all(map(str.isdecimal, numbers)):
            return None
        return cls(topic, *map(int, numbers))


class OutRecord(NamedTuple):
    """One message to publish."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: list[Header]
    origin: Origin


class Coded(msgspec.Struct, gc=False):
    """A column of few different values: each of them once, and where each row's stands."""

    words: list[Any]
    codes: Numbers

    @classmethod
    def of(cls, values: Sequence[Any], word_of: Callable[[Any], Any] | None = None) -> Coded:
        """A column of these values, or of what follows from each, made once for each of them."""
        numbers: dict[Any, int] = defaultdict(count().__next__)
        codes = np.fromiter(map(numbers.__getitem__, values), np.int64, len(values))
        return cls(list(numbers if word_of is None else map(word_of, numbers)), codes)

    def __len__(self) -> int:
        return len(self.codes)

    def __iter__(self) -> Iterator[Any]:
        return map(self.words.__getitem__, self.codes.tolist())

    def tolist(self) -> list[Any]:
        """The column as a list, row by row."""
        return list(self)


def group(columns: Sequence[Coded]) -> tuple[Numbers, Numbers]:
    """Which rows are alike in all of these columns.

    Shapes: the places of the first row of each group, rising, and the group of every row.
    """
    found: Numbers = columns[0].codes
    size = len(columns[0].words)
    for column in columns[1:]:
        count_here = max(len(column.words), 1)
        if size * count_here >= _CODES_MAX:
            values, found = np.unique(found, return_inverse=True)
            size = len(values)
        found = found * count_here + column.codes
        size *= count_here
    _, first, back = np.unique(found, return_index=True, return_inverse=True)
    order = np.argsort(first)
    ranks = np.empty_like(order)
    ranks[order] = np.arange(len(order))
    return first[order], ranks[back]


class Rows(NamedTuple):
    """Rows for one table, by column; every column has `size` values.

    Shapes: `cells` are there where the rows of a table with a key are numbered by it: equal ones
    have the same key and are told in the order of their versions, the latest one last. Columns of
    such rows never change any more.
    """

    table: str
    size: int
    columns: dict[str, Any]
    cells: Numbers | None = None


def rows_of(table: str, names: Sequence[str], lines: Sequence[tuple[Any, ...]]) -> Rows:
    """Lines as rows of a table. Shapes: without a line there are no columns either."""
    if not lines:
        return Rows(table, 0, {})
    columns = map(list, zip(*lines, strict=True))
    return Rows(table, len(lines), dict(zip(names, columns, strict=True)))


class Outputs(NamedTuple):
    """All that one block leads to; `counts` says how many messages left by each (door, code).

    Shapes: `accepted` is there where somebody follows, and the block had something to follow;
    `only_refused` in its place where the gate let nothing of a block through.
    """

    lane: int
    topic: str
    records: Sequence[OutRecord]
    rows: list[Rows]
    counts: dict[tuple[Door, str], int]
    accepted: AcceptedBlock | None = None
    only_refused: AcceptedBlock | None = None


class Followed(NamedTuple):
    """All that one block leads to in a follower.

    Shapes: `records` belong to the epoch and are published once; `prompt` ones are published at
    once, with ids that are the same whenever they are made again.
    """

    records: list[OutRecord]
    prompt: list[OutRecord]
    rows: list[Rows]
