"""Check a block: read the tickets, decode and validate the bodies, refuse with a code."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from itertools import compress
from operator import attrgetter, call, ne
from typing import Any, Final
from zoneinfo import available_timezones

import numpy as np

from schemas.blocks import CheckedBlock, RawBlock
from schemas.bodies import BodyScanner
from schemas.columns import encode_all
from schemas.events import DECODE_ERRORS, EventType, explain
from schemas.events.nesting import NESTING_MAX, SHALLOW_BYTES_MAX, is_too_deep
from schemas.fates import Refusal
from schemas.few import are_few
from schemas.policy import Policy
from schemas.ticket import Label
from schemas.ticket_reader import TicketReader
from schemas.tickets import NO_LABEL, NO_TIME, Numbers
from schemas.topics_catalog import Topic

LATEST_MS: Final = 4_102_444_800_000
"""2100-01-01: ClickHouse's DateTime ends in 2106."""

_journey_of: Final = attrgetter("journey_id")
_subject_of: Final = attrgetter("subject")


class _Nothing:
    """Stands for a body that is refused while bodies are compared."""

    journey_id = None
    subject = None


_NOTHING: Final = _Nothing()

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
        self._scanner = BodyScanner(event_types)
        self._event_types = event_types
        self._topics = topics
        self._skew_ms_max = skew_ms_max
        self._body_bytes_max = body_bytes_max
        self._verdicts: dict[tuple[str, Label], EventType | Refusal] = {}

    def check(self, raw: RawBlock) -> CheckedBlock:
        """Give every message of a block its ticket and body, or the reason why not."""
        timestamps = np.array(raw.timestamps, np.int64)
        strange = _bring_in_range(raw, timestamps)
        tickets, refusals = self._reader.read_block(raw.headers)
        block = CheckedBlock(raw, tickets, (), refusals, {})
        if self._topics[raw.topic].compaction and not all(raw.values):
            self._set_tombstones(block)
        kinds = [self._kind_of(raw.topic, label) for label in tickets.labels]
        scanned = self._scanner.scan(raw, tickets, kinds, bytes_max=self._body_bytes_max)
        suspects: Sequence[int] = range(len(tickets))
        if not are_few(suspects):
            odd = self._odd_contents(block) if scanned is None else scanned[1]
            suspects = sorted(self._suspects(block, kinds, timestamps).union(strange, odd))
        for place in suspects:
            if place not in refusals:
                wrong = self._wrong_with(block, place, kinds[tickets.numbers[place]])
                if wrong is None and place in strange:
                    wrong = Refusal("T105", "", "expected a record time from 1970 to 2100")
                if wrong is not None:
                    refusals[place] = wrong
        for place in refusals:
            if tickets.numbers[place] == NO_LABEL:
                block.glances[place] = self._reader.glance(raw.headers[place])
        if scanned is None:
            block.bodies = _decode_all(block, kinds)
        else:
            block.bodies = scanned[0]
            _decode_some(block, kinds, scanned[0].decoded, scanned[1])
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

    def _suspects(
        self, block: CheckedBlock, kinds: Sequence[EventType | Refusal], timestamps: Numbers
    ) -> set[int]:
        """The places of messages whose label or times may be wrong."""
        tickets = block.tickets
        refused = np.array([*(isinstance(kind, Refusal) for kind in kinds), True], np.bool_)
        latest = block.raw.received_ms + self._skew_ms_max
        wrong = refused[tickets.numbers]
        wrong |= tickets.times_ms > np.minimum(timestamps + self._skew_ms_max, latest)
        wrong |= tickets.recorded_ms > latest
        wrong |= (tickets.expiry_ms <= timestamps) & (tickets.expiry_ms != NO_TIME)
        return set(np.flatnonzero(wrong).tolist())

    def _odd_contents(self, block: CheckedBlock) -> set[int]:
        """The places of messages whose key or value is not plainly right, but for its JSON."""
        raw, tickets = block.raw, block.tickets
        found = {*_unlike(encode_all(tickets.keys()), list(raw.keys), [*block.refusals])}
        values: Any = raw.values
        if not all(values):
            found.update(at for at, value in enumerate(values) if value is None)
            values = [value or b"" for value in values]
        longest = min(self._body_bytes_max, SHALLOW_BYTES_MAX)
        if max(map(len, values), default=0) > longest:
            found.update(at for at, value in enumerate(values) if len(value) > longest)
        if not all(map(bytes.isascii, values)):
            found.update(at for at, value in enumerate(values) if not value.isascii())
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


def _bring_in_range(raw: RawBlock, timestamps: Numbers) -> set[int]:
    """Bound the record times, which producers set, to what every table can hold.

    Shapes: the places of those that were outside; their messages are refused.
    """
    ends: Any = raw.timestamps
    if not are_few(timestamps):
        ends = (timestamps.min(), timestamps.max())
    if min(ends, default=0) >= 0 and max(ends, default=0) <= LATEST_MS:
        return set()
    strange = np.flatnonzero((timestamps < 0) | (timestamps > LATEST_MS)).tolist()
    np.clip(timestamps, 0, LATEST_MS, out=timestamps)
    raw.timestamps = timestamps.tolist()
    return set(strange)


@cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _decode_all(block: CheckedBlock, kinds: Sequence[EventType | Refusal]) -> list[Any]:
    """Decode what is not refused, and compare the bodies with their tickets."""
    numbers, refused = block.tickets.numbers, [*block.refusals]
    if refused:
        numbers = numbers.copy()
        numbers[refused] = NO_LABEL
    places = range(len(numbers))
    bodies = _decode(block, kinds, places, numbers.tolist(), block.raw.values)
    zoned = [isinstance(kind, EventType) and _has_zone(kind) for kind in kinds]
    _compare_all(block, bodies, zoned)
    for place in block.refusals:
        bodies[place] = None
    return bodies


def _decode_some(
    block: CheckedBlock,
    kinds: Sequence[EventType | Refusal],
    decoded: dict[int, Any],
    suspects: Sequence[int],
) -> None:
    """Decode the bodies that no scan found right, and compare them with their tickets."""
    places = [place for place in suspects if place not in block.refusals]
    numbers = [int(block.tickets.numbers[place]) for place in places]
    values = [block.raw.values[place] for place in places]
    for place, body in zip(places, _decode(block, kinds, places, numbers, values), strict=True):
        wrong = None if body is _NOTHING else _differs(block, place, body)
        if wrong is not None:
            block.refusals[place] = wrong
        decoded[place] = body
    decoded.update(dict.fromkeys(block.refusals))


def _nothing_of(_value: Any) -> _Nothing:
    return _NOTHING


def _decode(
    block: CheckedBlock,
    kinds: Sequence[EventType | Refusal],
    places: Sequence[int],
    numbers: Sequence[int],
    values: Sequence[Any],
) -> list[Any]:
    """Decode in one C loop that goes on after each bad body, which is refused and `_NOTHING`.

    Shapes: `_NOTHING` also for `NO_LABEL`, -1: the last of the decoders answers for it.
    """
    decoders: list[Any] = [*(getattr(kind, "decode", None) for kind in kinds), _nothing_of]
    bodies: list[Any] = []
    results = map(call, map(decoders.__getitem__, numbers), values)
    while True:
        try:
            bodies.extend(results)
        except DECODE_ERRORS:
            at = len(bodies)
            kind = kinds[numbers[at]]
            assert isinstance(kind, EventType)
            block.refusals[places[at]] = _why(kind, values[at])
            bodies.append(_NOTHING)
        else:
            return bodies


@cache
def _has_zone(kind: EventType) -> bool:
    return "zone" in kind.struct.__struct_fields__


def _compare_all(block: CheckedBlock, bodies: list[Any], zoned: Sequence[bool]) -> None:
    """Compare the bodies with their tickets; only those that may differ one by one."""
    tickets, refused = block.tickets, [*block.refusals]
    suspects: set[int] = set()
    for of, told in ((_journey_of, tickets.correlations), (_subject_of, tickets.subjects)):
        stated = list(map(of, bodies))
        if stated.count(None) < len(stated):
            suspects.update(_unlike(stated, told, refused))
    if any(zoned):
        suspects.update(np.flatnonzero(np.array([*zoned, False])[tickets.numbers]).tolist())
    for place in sorted(suspects.difference(refused)):
        wrong = _differs(block, place, bodies[place])
        if wrong is not None:
            block.refusals[place] = wrong


def _unlike(found: list[Any], wanted: Sequence[Any], but: Sequence[int]) -> Iterable[int]:
    """The places where two columns differ, but for these; most often there is none."""
    for place in but:
        found[place] = wanted[place]
    return () if found == wanted else compress(range(len(found)), map(ne, found, wanted))


def _why(kind: EventType, value: bytes) -> Refusal:
    problems = explain(kind, value)
    if not problems:
        # It decodes after all: the stack was too short for it a moment ago. That verdict stands.
        return _TOO_DEEP
    reason = "; ".join(f"{part.pointer or '/'} {part.reason}" for part in problems)
    return Refusal(problems[0].code, problems[0].pointer, reason)


def _differs(block: CheckedBlock, place: int, body: Any) -> Refusal | None:
    """What refuses a body that names another journey or person than its ticket, or no real zone."""
    ticket = block.tickets[place]
    assert ticket is not None
    if body.journey_id is not None and body.journey_id != ticket.correlation:
        return Refusal("T302", "/journey_id", "expected the ticket's correlation id")
    if body.subject is not None and body.subject != ticket.subject:
        return Refusal("T302", "/subject", "expected the ticket's subject")
    if getattr(body, "zone", None) is not None and body.zone not in _zones():
        return Refusal("T302", "/zone", "expected the name of a time zone")
    return None
