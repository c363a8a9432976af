"""Check a block: read the tickets, decode and validate the bodies, refuse with a code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from itertools import compress
from operator import attrgetter, call, ne
from typing import Any, Final
from zoneinfo import available_timezones

import numpy as np

from schemas.blocks import CheckedBlock, RawBlock
from schemas.columns import encode_all
from schemas.events import DECODE_ERRORS, EventType, explain
from schemas.events.nesting import NESTING_MAX, SHALLOW_BYTES_MAX, is_too_deep
from schemas.fates import Refusal
from schemas.policy import Policy
from schemas.ticket import Label
from schemas.ticket_reader import TicketReader
from schemas.tickets import NO_LABEL, NO_TIME
from schemas.topics_catalog import Topic

LATEST_MS: Final = 4_102_444_800_000
"""2100-01-01: ClickHouse's DateTime ends in 2106."""

_journey_of: Final = attrgetter("journey_id")
_subject_of: Final = attrgetter("subject")

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
        tickets, refusals = self._reader.read_block(raw.headers)
        block = CheckedBlock(raw, tickets, [None] * len(raw.values), refusals, {})
        if not all(raw.values) and self._topics[raw.topic].compaction:
            self._set_tombstones(block)
        kinds = [self._kind_of(raw.topic, label) for label in tickets.labels]
        for place in sorted(self._suspects(block, kinds) | strange):
            if place not in refusals:
                wrong = self._wrong_with(block, place, kinds[tickets.numbers[place]])
                if wrong is None and place in strange:
                    wrong = Refusal("T105", "", "expected a record time from 1970 to 2100")
                if wrong is not None:
                    refusals[place] = wrong
        for place in refusals:
            if tickets.numbers[place] == NO_LABEL:
                block.glances[place] = self._reader.glance(raw.headers[place])
        _decode(block, kinds)
        return block

    def _set_tombstones(self, block: CheckedBlock) -> None:
        """A tombstone needs no ticket: compaction leaves only its key."""
        for place, value in enumerate(block.raw.values):
            if value is None:
                block.tickets.numbers[place] = NO_LABEL
                block.refusals[place] = Refusal("T606", "", "a tombstone")

    def _kind_of(self, topic: str, label: Label) -> EventType | Refusal:
        kind = self._verdicts.get((topic, label))
        if kind is None:
            if len(self._verdicts) >= 4_096:  # noqa: PLR2004 - as the reader's caches
                self._verdicts.clear()
            kind = self._verdict(topic, label)
            self._verdicts[topic, label] = kind
        return kind

    def _suspects(self, block: CheckedBlock, kinds: Sequence[EventType | Refusal]) -> set[int]:
        """The places of messages that may be wrong; the others are right, but for their bodies."""
        raw, tickets = block.raw, block.tickets
        refused = np.array([*(isinstance(kind, Refusal) for kind in kinds), True], np.bool_)
        timestamps = np.array(raw.timestamps, np.int64)
        latest = raw.received_ms + self._skew_ms_max
        wrong = refused[tickets.numbers]
        wrong |= tickets.times_ms > np.minimum(timestamps + self._skew_ms_max, latest)
        wrong |= tickets.recorded_ms > latest
        wrong |= (tickets.expiry_ms <= timestamps) & (tickets.expiry_ms != NO_TIME)
        found = set(np.flatnonzero(wrong).tolist())
        places = range(len(raw.values))
        keys = encode_all(tickets.keys())
        found.update(compress(places, map(ne, keys, raw.keys)))
        values: list[Any] = raw.values
        if not all(values):
            found.update(place for place, value in enumerate(values) if value is None)
            values = [value or b"" for value in values]
        longest = min(self._body_bytes_max, SHALLOW_BYTES_MAX)
        if max(map(len, values), default=0) > longest:
            found.update(place for place, value in enumerate(values) if len(value) > longest)
        if not all(map(bytes.isascii, values)):
            found.update(place for place, value in enumerate(values) if not value.isascii())
        return found

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

    def _wrong_with(
        self, block: CheckedBlock, place: int, kind: EventType | Refusal
    ) -> Refusal | None:
        if isinstance(kind, Refusal):
            return kind
        raw, ticket = block.raw, block.tickets[place]
        assert ticket is not None
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


def _decode(block: CheckedBlock, kinds: Sequence[EventType | Refusal]) -> None:
    """Decode in one C loop that goes on after each bad body."""
    every, numbers = block.raw.values, block.tickets.numbers.tolist()
    places: Sequence[int] = range(len(every))
    if block.refusals:
        places = [place for place in places if place not in block.refusals]
        numbers = [numbers[place] for place in places]
    values: list[Any] = [every[place] for place in places]
    decoders: list[Any] = [getattr(kind, "decode", None) for kind in kinds]
    bodies: list[Any] = []
    results = map(call, map(decoders.__getitem__, numbers), values)
    while True:
        try:
            bodies.extend(results)
            break
        except DECODE_ERRORS:
            at = len(bodies)
            kind = kinds[numbers[at]]
            assert isinstance(kind, EventType)
            block.refusals[places[at]] = _why(kind, values[at])
            bodies.append(None)
    if len(places) == len(every):
        block.bodies = bodies
    else:
        for place, body in zip(places, bodies, strict=True):
            block.bodies[place] = body
    zoned = [isinstance(kind, EventType) and _has_zone(kind) for kind in kinds]
    _compare_all(block, zoned)


@cache
def _has_zone(kind: EventType) -> bool:
    return "zone" in kind.struct.__struct_fields__


def _compare_all(block: CheckedBlock, zoned: Sequence[bool]) -> None:
    """Compare the bodies with their tickets; only those that may differ one by one."""
    tickets, bodies = block.tickets, block.bodies
    journeys, subjects = tickets.correlations, tickets.subjects
    places: Sequence[int] = range(len(bodies))
    if block.refusals:
        places = [place for place, body in enumerate(bodies) if body is not None]
        take: Any = [bodies, journeys, subjects]
        bodies, journeys, subjects = ([part[place] for place in places] for part in take)
    suspects = set(compress(places, map(ne, map(_journey_of, bodies), journeys)))
    stated = list(map(_subject_of, bodies))
    if stated.count(None) < len(stated):
        suspects.update(compress(places, map(ne, stated, subjects)))
    if any(zoned):
        suspects.update(np.flatnonzero(np.array([*zoned, False])[tickets.numbers]).tolist())
    for place in sorted(suspects):
        if block.bodies[place] is not None:
            _compare(block, place, block.bodies[place])


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
