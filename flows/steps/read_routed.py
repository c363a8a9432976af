"""Read what another flow routed: for flows that follow accepted events through Kafka."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from flows.steps.accept import PROFILE_TOPIC, accepted_block, to_follow
from flows.steps.publish import ZONE_HEADER
from schemas.blocks import CONTROL_HEADER, ORIGIN_HEADER, AcceptedBlock, CheckedBlock, RawBlock
from schemas.events import DECODE_ERRORS, EVENT_TYPES
from schemas.ticket import Header, Ticket
from schemas.ticket_reader import TicketReader

STATE_VERSION: Final = 1

Place = tuple[str, int]


class RoutedReader:
    """Turns one lane's routed blocks into accepted ones, each event once.

    A message that this release cannot read is left out and counted by code: who routed it has
    told of it, and its fact is in the tables.
    State: the newest event time of every partition, what all but the quiet ones have reached, and
    how far each input partition was seen: an at-least-once gate repeats, and a repeat is behind.
    Delivery: after a resume the same blocks give the same events.
    """

    def __init__(self, reader: TicketReader) -> None:
        self._reader = reader
        self._newest: dict[Place, int] = {}
        self._watermark_ms = 0
        self._seen: dict[Place, dict[str, int]] = {}

    def read(self, raw: RawBlock) -> tuple[AcceptedBlock | None, dict[str, int]]:
        """The events of a block that are new, and how many were left out by code."""
        tickets, refusals = self._reader.read_block(raw.headers)
        bodies: list[Any] = [None] * len(raw.values)
        places: list[int] = []
        zones: dict[int, str] = {}
        left_out: dict[str, int] = {}
        for place, ticket in enumerate(tickets):
            if ticket is not None:
                code = self._take(raw, place, ticket, bodies, zones)
            else:
                code = "" if _is_control(raw.headers[place]) else refusals[place].code
            if code:
                left_out[code] = left_out.get(code, 0) + 1
            elif bodies[place] is not None:
                places.append(place)
        if not places:
            return None, left_out
        self._move_on(raw)
        block = CheckedBlock(raw, tickets, bodies, {}, {})
        found = accepted_block(block, places, watermark_ms=self._watermark_ms, zones=zones)
        return found, left_out

    def _move_on(self, raw: RawBlock) -> None:
        """Let time pass as the gate does: a quiet partition holds nothing back."""
        if raw.unread:
            return
        quiet = {*raw.quiet} - {(raw.topic, part) for part in raw.partitions}
        moving = [at_ms for where, at_ms in self._newest.items() if where not in quiet]
        self._watermark_ms = max(self._watermark_ms, min(moving, default=0))

    def _take(
        self, raw: RawBlock, place: int, ticket: Ticket, bodies: list[Any], zones: dict[int, str]
    ) -> str:
        where = (raw.topic, raw.partitions[place])
        rest = dict(ticket.rest)
        if self._is_repeat(where, rest.get(ORIGIN_HEADER)):
            return "T602"
        kind = EVENT_TYPES.get(ticket.label.type)
        if kind is None:
            return "T301"
        if kind.topic == PROFILE_TOPIC:
            return ""  # followers read the profiles' own topic
        try:
            bodies[place] = kind.decode(raw.values[place] or b"")
        except DECODE_ERRORS:
            return "T303"
        self._newest[where] = max(self._newest.get(where, 0), ticket.time_ms)
        zone = rest.get(ZONE_HEADER)
        if zone:
            zones[place] = zone.decode("utf-8", "replace")
        return ""

    def _is_repeat(self, where: Place, origin: bytes | None) -> bool:
        """Within a partition the origins of one input partition rise, but for repeats."""
        if origin is None:
            return False
        source, _, rest = origin.decode("ascii", "replace").rpartition("/")
        source, _, offset = source.rpartition("/")
        if not offset.isdigit() or not rest.isdigit():
            return False
        seen = self._seen.setdefault(where, {})
        if int(offset) <= seen.get(source, -1):
            return True
        seen[source] = int(offset)
        return False

    def dump(self) -> bytes:
        """The state as bytes with a version number."""
        return msgspec.msgpack.encode(
            {
                "version": STATE_VERSION,
                "newest": [[*where, at_ms] for where, at_ms in self._newest.items()],
                "watermark": self._watermark_ms,
                "seen": [[*where, seen] for where, seen in self._seen.items()],
            }
        )

    def load(self, dumped: bytes) -> None:
        """Take back what `dump` gave."""
        state: dict[str, Any] = msgspec.msgpack.decode(dumped)
        self._newest = {(topic, part): at_ms for topic, part, at_ms in state["newest"]}
        # Releases that let quiet partitions hold time back kept none: theirs was the slowest's.
        slowest_ms = min(self._newest.values(), default=0)
        self._watermark_ms = state.get("watermark", slowest_ms)
        self._seen = {(topic, part): dict(seen) for topic, part, seen in state["seen"]}


def _is_control(headers: list[Header] | None) -> bool:
    """Whether a record only ended a transaction."""
    return any(name == CONTROL_HEADER for name, _ in headers or ())


def profiles_of(block: CheckedBlock) -> AcceptedBlock | None:
    """The profiles of a checked block of their topic, and whose were removed.

    What the gate of `ingest` refuses by its memory is not known here; a profile that is right in
    itself counts.
    """
    held = [
        place
        for place, body in enumerate(block.bodies)
        if body is not None or block.refusals[place].code == "T606"
    ]
    return to_follow(block, zones={}, held=held, watermark_ms=0)
