"""Turn accepted events into columns of the facts table, and refused ones into quarantine's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from flows.steps.enrich import hours_of_week
from schemas.blocks import Coded, Origin, Rows
from schemas.fates import Refusal
from schemas.hops import Hop, parse_hops
from schemas.ticket import Label
from schemas.tickets import Numbers, Tickets

Mask = npt.NDArray[np.bool_]

NO_HOUR: Final = 255
"""The local hour of an event whose person's zone is not known."""

_DAY_MS: Final = 86_400_000
_WARNINGS: Final[list[Any]] = [(), ("T604",), ("T504",), ("T604", "T504")]


class Accepted(msgspec.Struct, gc=False):
    """Events of one block that passed every check, by column.

    Shapes: all columns have the same length. `bodies` has the names of `COLUMNS` that a ticket
    has not, None for what a body has not, but 0 in an array; `unknown` marks those whose person
    has no profile, `back` those whose hops tell of a clock that went back. `coded` are the columns
    of words that somebody asked for.
    Units: `recorded_ms` since 1970 UTC.
    """

    topic: str
    tickets: Tickets
    partitions: Numbers
    offsets: Numbers
    recorded_ms: Numbers
    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]
    bodies: Mapping[str, Any]
    zones: list[str]
    unknown: Mask
    back: Mask
    coded: dict[str, Coded] = {}

    def __len__(self) -> int:
        return len(self.offsets)

    def by_label(self, of: Callable[[Label], Any]) -> Coded:
        """A column that follows from the label."""
        return Coded([of(label) for label in self.tickets.labels], self.tickets.numbers)

    def words(self, name: str) -> Coded:
        """A column of the bodies with few different words, empty where a body has none."""
        found = self.coded.get(name)
        if found is None:
            column = self.bodies[name]
            if isinstance(column, Coded):
                found = Coded([word or "" for word in column.words], column.codes)
            else:
                some = any(column)
                found = Coded.of(column, _word_or_empty) if some else Coded([""], _zeros(self))
            self.coded[name] = found
        return found

    def amounts(self) -> Numbers:
        """The bodies' amounts, 0 where one has none. Units: minor units of the currency."""
        column = self.bodies["amount_minor"]
        if isinstance(column, np.ndarray):
            return column
        return (
            np.array([amount or 0 for amount in column], np.int64) if any(column) else _zeros(self)
        )


def _word_or_empty(word: str | None) -> str:
    return word or ""


class Refused(NamedTuple):
    """One message that did not pass, with what can be told of it."""

    refusal: Refusal
    origin: Origin
    recorded_ms: int
    event_id: str
    source: str
    event_type: str
    purpose: str
    class_text: str


def fact_rows(events: Accepted) -> Rows:
    """One row for each accepted event.

    Delivery: safe to repeat; the sort key has immutable attributes only, the version is the
    record's offset.
    """
    tickets = events.tickets
    kept_ms = [label.decision.retention_s * 1_000 for label in tickets.labels]
    expires_ms = events.recorded_ms + np.array(kept_ms, np.int64)[tickets.numbers]
    columns: dict[str, Any] = {
        "event_id": tickets.ids,
        "event_type": events.by_label(attrgetter("type")),
        "source": events.by_label(attrgetter("source")),
        "event_time": tickets.times_ms,
        "recorded_at": events.recorded_ms,
        "purpose": events.by_label(attrgetter("purpose")),
        "class": events.by_label(attrgetter("class_text")),
        "sensitivity": events.by_label(attrgetter("decision.rank")),
        "category": events.by_label(attrgetter("categories")),
        "subject": tickets.subjects,
        "journey": tickets.correlations,
        "cause": tickets.causations,
        "trace_id": _trace_ids(tickets.traceparents),
        "hops": Coded.of(tickets.hops, _hop_tuples),
        "zone": Coded.of(events.zones),
        "local_hour": hours_of_week(events.zones, tickets.times_ms, unknown=NO_HOUR),
        "notification": _texts(events.bodies["notification_id"]),
        "amount_minor": events.amounts(),
        "warnings": Coded(_WARNINGS, events.unknown + 2 * events.back.astype(np.int64)),
        # The day after which the row may go: the policy's retention, counted from the record's
        # time, so that old events can be replayed. The gate refuses what comes after it.
        "expires_at": expires_ms // _DAY_MS + 1,
    }
    for name in ("campaign", "tenant", "channel", "arm", "reason", "currency"):
        columns[name] = events.words(name)
    columns["topic"] = Coded([events.topic], _zeros(events))
    columns["part"] = events.partitions
    columns["off"] = columns["ver"] = events.offsets
    return Rows("facts", len(events), columns)


def _zeros(events: Accepted) -> Numbers:
    return np.zeros(len(events), np.int64)


def _texts(column: Sequence[str | None]) -> Sequence[str | None]:
    return column if all(column) else [text or "" for text in column]


def _trace_ids(parents: Sequence[bytes | None]) -> list[str] | Coded:
    if not any(parents):
        return Coded([""], np.zeros(len(parents), np.int64))
    return [parent[3:35].decode("ascii") if parent else "" for parent in parents]


def quarantine_rows(messages: list[Refused]) -> Rows:
    """One row for each message that left by another door than the routed one."""
    columns: dict[str, Any] = {
        "recorded_at": [message.recorded_ms for message in messages],
        "door": [message.refusal.door.value for message in messages],
        "code": [message.refusal.code for message in messages],
        "pointer": [message.refusal.pointer for message in messages],
        "reason": [message.refusal.reason for message in messages],
        "event_id": [message.event_id for message in messages],
        "source": [message.source for message in messages],
        "event_type": [message.event_type for message in messages],
        "purpose": [message.purpose for message in messages],
        "class": [message.class_text for message in messages],
    }
    origins = [message.origin for message in messages]
    columns["topic"] = [origin.topic for origin in origins]
    columns["part"] = [origin.partition for origin in origins]
    columns["off"] = columns["ver"] = [origin.offset for origin in origins]
    return Rows("quarantine", len(messages), columns)


def _hop_tuples(text: str) -> list[Hop]:
    hops = parse_hops(text) if text else []
    return hops if isinstance(hops, list) else []
