"""The tickets of a block by column: one list or array for each part of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, compress
from operator import itemgetter, not_
from typing import Any, Final, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from schemas.ticket import Header, Label, Ticket

Numbers = npt.NDArray[np.int64]

NO_LABEL: Final = -1
NO_TIME: Final = -1

T = TypeVar("T")


class Tickets(msgspec.Struct, gc=False):
    """Tickets by column; a `Ticket` is made when somebody asks for the one at a place.

    Shapes: all columns but `labels` have the same length. `numbers` are indices into `labels`, a
    list without repeats; a message without a ticket has `NO_LABEL` there, and nothing that
    counts in the other columns. Texts that a ticket does not have are empty.
    Units: milliseconds since 1970 UTC, `NO_TIME` where a ticket states none.
    State: `memory` is a library's, where the tickets of all messages of a batch were found in it;
    the columns of texts are then made when somebody asks.
    """

    labels: list[Label]
    numbers: Numbers
    ids: list[str]
    times_ms: Numbers
    correlations: list[str]
    subjects: list[str]
    causations: list[str]
    hops: list[str]
    recorded_ms: Numbers
    expiry_ms: Numbers
    traceparents: list[bytes | None]
    tracestates: list[bytes | None]
    macs: list[bytes | None]
    rests: list[tuple[Header, ...]]
    memory: Any = None

    def __len__(self) -> int:
        return len(self.numbers)

    def __iter__(self) -> Iterator[Ticket | None]:
        return map(self.__getitem__, range(len(self)))

    def __getitem__(self, place: int) -> Ticket | None:
        number = int(self.numbers[place])
        if number == NO_LABEL:
            return None
        recorded_ms, expiry_ms = int(self.recorded_ms[place]), int(self.expiry_ms[place])
        return Ticket(
            label=self.labels[number],
            id=self.ids[place],
            time_ms=int(self.times_ms[place]),
            correlation=self.correlations[place],
            subject=self.subjects[place],
            causation=self.causations[place],
            hops=self.hops[place],
            recorded_ms=recorded_ms if recorded_ms != NO_TIME else None,
            expiry_ms=expiry_ms if expiry_ms != NO_TIME else None,
            traceparent=self.traceparents[place],
            tracestate=self.tracestates[place],
            mac=self.macs[place],
            rest=self.rests[place],
        )

    def keys(self) -> list[str]:
        """What each message's key has to be: its subject, else its id."""
        if "" not in self.subjects:
            return self.subjects
        found = list(self.subjects)
        for place in [*compress(range(len(found)), map(not_, found))]:
            found[place] = self.ids[place]
        return found

    def at(self, places: Sequence[int]) -> Tickets:
        """The tickets at these places only. Shapes: places rise, each once."""
        if len(places) == len(self):
            return self

        take = columns_at(places, len(self))

        def some(column: list[Any]) -> list[Any]:
            return take(column) if any(column) else column[: len(places)]

        return Tickets(
            labels=self.labels,
            numbers=self.numbers[places],
            times_ms=self.times_ms[places],
            recorded_ms=self.recorded_ms[places],
            expiry_ms=self.expiry_ms[places],
            **{name: some(getattr(self, name)) for name in _LISTS},
        )

    def put(self, found: Mapping[int, Ticket | None]) -> None:
        """Set the tickets at some places, or that there is none."""
        numbers = {label: number for number, label in enumerate(self.labels)}
        for place, ticket in found.items():
            if ticket is None:
                self.numbers[place] = NO_LABEL
                continue
            self.numbers[place] = numbers.setdefault(ticket.label, len(numbers))
            self.ids[place] = ticket.id
            self.times_ms[place] = ticket.time_ms
            self.correlations[place] = ticket.correlation
            self.subjects[place] = ticket.subject
            self.causations[place] = ticket.causation
            self.hops[place] = ticket.hops
            self.recorded_ms[place] = _time_or_none(ticket.recorded_ms)
            self.expiry_ms[place] = _time_or_none(ticket.expiry_ms)
            self.traceparents[place] = ticket.traceparent
            self.tracestates[place] = ticket.tracestate
            self.macs[place] = ticket.mac
            self.rests[place] = ticket.rest
        self.labels = list(numbers)


def _time_or_none(at_ms: int | None) -> int:
    return NO_TIME if at_ms is None else at_ms


def columns_at(places: Sequence[int], size: int) -> Callable[[Sequence[T]], list[T]]:
    """A function that takes these places of a column of a size; all of them are a plain copy."""
    if len(places) == size:
        return list
    if len(places) <= 1:
        return lambda column: [column[place] for place in places]
    take = itemgetter(*places)
    return lambda column: list(take(column))


def same(value: int, size: int, kind: Any = np.int64) -> npt.NDArray[Any]:
    """A column of one value; for few, `numpy.full` takes four times as long."""
    column = np.empty(size, kind)
    column.fill(value)
    return column


def no_tickets(size: int) -> Tickets:
    """Columns of this length without any ticket yet."""
    return Tickets(
        labels=[],
        numbers=same(NO_LABEL, size),
        ids=[""] * size,
        times_ms=np.zeros(size, np.int64),
        correlations=[""] * size,
        subjects=[""] * size,
        causations=[""] * size,
        hops=[""] * size,
        recorded_ms=same(NO_TIME, size),
        expiry_ms=same(NO_TIME, size),
        traceparents=[None] * size,
        tracestates=[None] * size,
        macs=[None] * size,
        rests=[()] * size,
    )


def join(parts: Sequence[Tickets], places: Sequence[Numbers]) -> Tickets:
    """One block's tickets from those of its parts.

    Shapes: `places` says for each part where in the block its tickets stand; every place once.
    """
    labels: list[Label] = []
    numbers: list[Numbers] = []
    for part in parts:
        here: dict[Label, int] = {label: number for number, label in enumerate(labels)}
        found = [here.setdefault(label, len(here)) for label in part.labels]
        labels = list(here)
        # The last one answers for NO_LABEL, which is -1.
        numbers.append(np.array([*found, NO_LABEL], np.int64)[part.numbers])
    joined = np.concatenate(places)
    back = np.empty_like(joined)
    back[joined] = np.arange(len(joined))
    take = columns_at(back.tolist(), -1)

    def arrays(name: str) -> Numbers:
        whole: Numbers = np.concatenate([getattr(part, name) for part in parts])
        return whole[back]

    def lists(name: str) -> list[Any]:
        whole = list(chain.from_iterable(getattr(part, name) for part in parts))
        return take(whole) if any(whole) else whole

    return Tickets(
        labels=labels,
        numbers=np.concatenate(numbers)[back],
        times_ms=arrays("times_ms"),
        recorded_ms=arrays("recorded_ms"),
        expiry_ms=arrays("expiry_ms"),
        **{name: lists(name) for name in _LISTS},
    )


_LISTS: Final = (
    "ids",
    "correlations",
    "subjects",
    "causations",
    "hops",
    "traceparents",
    "tracestates",
    "macs",
    "rests",
)
