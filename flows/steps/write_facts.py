"""Turn accepted events into columns of the facts table, and refused ones into quarantine's."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from flows.steps.enrich import hour_of_week
from schemas.blocks import Origin, Rows
from schemas.events import COLUMNS
from schemas.fates import Refusal
from schemas.hops import Hop, parse_hops
from schemas.ticket import Ticket

NO_HOUR: Final = 255
"""The local hour of an event whose person's zone is not known."""

_DAY_MS: Final = 86_400_000


class Accepted(NamedTuple):
    """One event that passed every check. Units: `recorded_ms` since 1970 UTC."""

    ticket: Ticket
    columns: tuple[Any, ...]
    origin: Origin
    recorded_ms: int
    zone: str
    warnings: tuple[str, ...]


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


def fact_rows(events: list[Accepted]) -> Rows:
    """One row for each accepted event.

    Delivery: safe to repeat; the sort key has immutable attributes only, the version is the
    record's offset.
    """
    tickets = [event.ticket for event in events]
    labels = [ticket.label for ticket in tickets]
    bodies = dict(zip(COLUMNS, zip(*(event.columns for event in events), strict=True), strict=True))
    columns: dict[str, Any] = {
        "event_id": [ticket.id for ticket in tickets],
        "event_type": [label.type for label in labels],
        "source": [label.source for label in labels],
        "event_time": [ticket.time_ms for ticket in tickets],
        "recorded_at": [event.recorded_ms for event in events],
        "purpose": [label.purpose for label in labels],
        "class": [label.class_text for label in labels],
        "sensitivity": [label.decision.rank for label in labels],
        "category": [label.categories for label in labels],
        "subject": [ticket.subject for ticket in tickets],
        "journey": [ticket.correlation for ticket in tickets],
        "cause": [ticket.causation for ticket in tickets],
        "trace_id": [_trace_id(ticket) for ticket in tickets],
        "hops": [_hop_tuples(ticket.hops) for ticket in tickets],
        "zone": [event.zone for event in events],
        "local_hour": [
            hour_of_week(event.zone, event.ticket.time_ms) if event.zone else NO_HOUR
            for event in events
        ],
        "notification": [value or "" for value in bodies["notification_id"]],
        "amount_minor": [value or 0 for value in bodies["amount_minor"]],
        "warnings": [event.warnings for event in events],
        # The day after which the row may go: the policy's retention, counted from the record's
        # time, so that old events can be replayed. The gate refuses what comes after it.
        "expires_at": [
            (event.recorded_ms + event.ticket.label.decision.retention_s * 1_000) // _DAY_MS + 1
            for event in events
        ],
    }
    for name in ("campaign", "tenant", "channel", "arm", "reason", "currency"):
        columns[name] = [value or "" for value in bodies[name]]
    _add_origin(columns, [event.origin for event in events])
    return Rows("facts", len(events), columns)


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
    _add_origin(columns, [message.origin for message in messages])
    return Rows("quarantine", len(messages), columns)


def _add_origin(columns: dict[str, Any], origins: list[Origin]) -> None:
    columns["topic"] = [origin.topic for origin in origins]
    columns["part"] = [origin.partition for origin in origins]
    columns["off"] = [origin.offset for origin in origins]
    columns["ver"] = [origin.offset for origin in origins]


def _trace_id(ticket: Ticket) -> str:
    return ticket.traceparent[3:35].decode("ascii") if ticket.traceparent else ""


def _hop_tuples(text: str) -> list[Hop]:
    hops = parse_hops(text) if text else []
    return hops if isinstance(hops, list) else []
