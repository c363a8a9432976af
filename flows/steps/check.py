"""Check a block: read the tickets, decode and validate the bodies, refuse with a code."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from operator import call
from typing import Any, Final
from zoneinfo import available_timezones

from schemas.blocks import CheckedBlock, RawBlock
from schemas.events import DECODE_ERRORS, EventType, explain
from schemas.events.nesting import NESTING_MAX, SHALLOW_BYTES_MAX, is_too_deep
from schemas.fates import Refusal
from schemas.policy import Policy
from schemas.ticket import Label, Ticket
from schemas.ticket_reader import TicketReader
from schemas.topics_catalog import Topic

LATEST_MS: Final = 4_102_444_800_000
"""2100-01-01: ClickHouse's DateTime ends in 2106."""

_TOO_DEEP: Final = Refusal("T303", "", f"expected at most {NESTING_MAX} levels of nesting")


class BlockChecker:
    """Checks blocks under one policy.

    State: bounded caches only. Delivery: safe to repeat; the same block gives the same result.
    """

    def __init__(
        self,
        *,
        policy: Policy,
        event_types: Mapping[str, EventType],
        topics: Mapping[str, Topic],
        skew_ms_max: int,
        body_bytes_max: int,
        key: bytes | None = None,
    ) -> None:
        self._reader = TicketReader(policy, key)
        self._event_types = event_types
        self._topics = topics
        self._skew_ms_max = skew_ms_max
        self._body_bytes_max = body_bytes_max
        self._verdicts: dict[tuple[str, Label], EventType | Refusal] = {}

    def check(self, raw: RawBlock) -> CheckedBlock:
        """Give every message of a block its ticket and body, or the reason why not."""
        strange = _bring_in_range(raw)
        block = CheckedBlock(raw, [], [None] * len(raw.values), {}, {})
        places: list[int] = []
        decoders: list[Callable[[bytes], Any]] = []
        values: list[bytes] = []
        kinds: list[EventType] = []
        for place, headers in enumerate(raw.headers):
            ticket = None
            if raw.values[place] is None and self._topics[raw.topic].compaction:
                # A tombstone needs no ticket: compaction leaves only its key.
                found: EventType | Refusal = Refusal("T606", "", "a tombstone")
            else:
                found, ticket = self._judge(raw, place, self._reader.read(headers))
                if place in strange and not isinstance(found, Refusal):
                    found = Refusal("T105", "", "expected a record time from 1970 to 2100")
            block.tickets.append(ticket)
            if isinstance(found, Refusal):
                block.refusals[place] = found
                if ticket is None:
                    block.glances[place] = self._reader.glance(headers)
                continue
            places.append(place)
            kinds.append(found)
            decoders.append(found.decode)
            values.append(raw.values[place] or b"")
        _decode(block, places, kinds, decoders, values)
        return block

    def _judge(
        self, raw: RawBlock, place: int, ticket: Ticket | Refusal
    ) -> tuple[EventType | Refusal, Ticket | None]:
        if isinstance(ticket, Refusal):
            return ticket, None
        kind = self._verdicts.get((raw.topic, ticket.label))
        if kind is None:
            if len(self._verdicts) >= 4_096:  # noqa: PLR2004 - as the reader's caches
                self._verdicts.clear()
            kind = self._verdict(raw.topic, ticket.label)
            self._verdicts[raw.topic, ticket.label] = kind
        if isinstance(kind, Refusal):
            return kind, ticket
        wrong = self._wrong_with(raw, place, ticket)
        return (kind if wrong is None else wrong), ticket

    def _verdict(self, topic: str, label: Label) -> EventType | Refusal:
        """What holds for every message with this label on this topic."""
        kind = self._event_types.get(label.type)
        if kind is None:
            return Refusal("T301", "/ce_type", "expected a known event type")
        if not self._topics[topic].accepts(label.type):
            return Refusal("T301", "/ce_type", "expected an event type of this topic")
        if label.decision.code:
            pointer = "/ce_dataclassification"
            return Refusal(label.decision.code, pointer, "expected a class that the policy allows")
        return kind

    def _wrong_with(self, raw: RawBlock, place: int, ticket: Ticket) -> Refusal | None:
        key, value = raw.keys[place], raw.values[place]
        if key != (ticket.subject or ticket.id).encode():
            return Refusal("T107", "", "expected the subject as the message key, else the id")
        recorded_ms = raw.timestamps[place]
        # The smaller clock: a producer sets the record's time too, so it cannot vouch for itself.
        if ticket.time_ms > min(recorded_ms, raw.received_ms) + self._skew_ms_max:
            return Refusal("T105", "/ce_time", "expected a time that is not in the future")
        if ticket.recorded_ms is not None and (
            ticket.recorded_ms > raw.received_ms + self._skew_ms_max
        ):
            return Refusal("T105", "/ce_recordedtime", "expected a time that is not in the future")
        if ticket.expiry_ms is not None and ticket.expiry_ms <= recorded_ms:
            return Refusal("T405", "/ce_expirytime", "expected a time after the record's")
        if value is None:
            return Refusal("T303", "", "expected a body")
        if len(value) > self._body_bytes_max:
            return Refusal("T103", "", f"expected a body of at most {self._body_bytes_max} bytes")
        if not value.isascii() and not _is_utf8(value):
            # The decoder skips unknown fields without looking at their bytes.
            return Refusal("T303", "", "expected JSON in UTF-8")
        if len(value) > SHALLOW_BYTES_MAX and is_too_deep(value):
            return _TOO_DEEP
        return None


def _bring_in_range(raw: RawBlock) -> set[int]:
    """Bound the record times, which producers set, to what every table can hold.

    Shapes: the places of those that were outside; their messages are refused.
    """
    if not raw.timestamps or (min(raw.timestamps) >= 0 and max(raw.timestamps) <= LATEST_MS):
        return set()
    strange = {n for n, at_ms in enumerate(raw.timestamps) if not 0 <= at_ms <= LATEST_MS}
    raw.timestamps = [min(max(at_ms, 0), LATEST_MS) for at_ms in raw.timestamps]
    return strange


@cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _decode(
    block: CheckedBlock,
    places: list[int],
    kinds: list[EventType],
    decoders: list[Callable[[bytes], Any]],
    values: list[bytes],
) -> None:
    """Decode in one C loop that goes on after each bad body."""
    bodies: list[Any] = []
    results = map(call, decoders, values)
    while True:
        try:
            bodies.extend(results)
            break
        except DECODE_ERRORS:
            at = len(bodies)
            block.refusals[places[at]] = _why(kinds[at], values[at])
            bodies.append(None)
    for place, body in zip(places, bodies, strict=True):
        block.bodies[place] = body
        if body is not None:
            _compare(block, place, body)


def _why(kind: EventType, value: bytes) -> Refusal:
    problems = explain(kind, value)
    if not problems:
        # It decodes after all: the stack was too short for it a moment ago. That verdict stands.
        return _TOO_DEEP
    reason = "; ".join(f"{part.pointer or '/'} {part.reason}" for part in problems)
    return Refusal(problems[0].code, problems[0].pointer, reason)


def _compare(block: CheckedBlock, place: int, body: Any) -> None:
    """Refuse a body that names another journey or person than its ticket, or no real zone."""
    ticket = block.tickets[place]
    assert ticket is not None
    if body.journey_id is not None and body.journey_id != ticket.correlation:
        wrong = Refusal("T302", "/journey_id", "expected the ticket's correlation id")
    elif body.subject is not None and body.subject != ticket.subject:
        wrong = Refusal("T302", "/subject", "expected the ticket's subject")
    elif getattr(body, "zone", None) is not None and body.zone not in _zones():
        wrong = Refusal("T302", "/zone", "expected the name of a time zone")
    else:
        return
    block.refusals[place] = wrong
    block.bodies[place] = None
