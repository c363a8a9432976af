"""Put accepted events into the columns that followers read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from schemas.blocks import AcceptedBlock, CheckedBlock, Notice, RawBlock

PROFILE_TOPIC: Final = "ntf.profiles.v1"
ERASURE_TOPIC: Final = "airside.erasure.v1"
MODEL_TOPIC: Final = "airside.model.v1"
NOTICE_TOPICS: Final = (ERASURE_TOPIC, MODEL_TOPIC)
"""Tables without tickets, which pass around the gate: followers read them as they are."""

_COLUMNS: Final = (
    *("partitions", "offsets", "labels", "ids", "times_ms", "recorded_ms", "subjects"),
    *("journeys", "causes", "hops", "zones", "bodies"),
)


def to_follow(
    block: CheckedBlock,
    *,
    zones: Mapping[int, str],
    held: Sequence[int],
    watermark_ms: int,
) -> AcceptedBlock | None:
    """What followers see of a block that passed a gate; None when there is nothing.

    Shapes: `zones` has every accepted place; `held` are the places that changed the table of
    profiles, which are given whenever the table is read, accepted now or before.
    """
    raw = block.raw
    if raw.topic != PROFILE_TOPIC:
        if not zones:
            return None
        return accepted_block(block, list(zones), watermark_ms=watermark_ms, zones=zones)
    told = {place: block.bodies[place].zone for place in held if block.bodies[place] is not None}
    gone = [place for place in held if block.bodies[place] is None]
    if not told and not gone:
        return None
    found = accepted_block(block, list(told), watermark_ms=watermark_ms, zones=told)
    found.gone = [(raw.keys[place] or b"").decode("utf-8", "replace") for place in gone]
    found.gone_at = [(raw.partitions[place], raw.offsets[place]) for place in gone]
    return found


def notices_of(raw: RawBlock) -> AcceptedBlock:
    """The messages of a topic that passes around the gate."""
    empty: dict[str, list[Any]] = {name: [] for name in _COLUMNS}
    columns = zip(raw.partitions, raw.offsets, raw.keys, raw.values, strict=True)
    return AcceptedBlock(
        lane=raw.lane,
        topic=raw.topic,
        received_ms=raw.received_ms,
        watermark_ms=0,
        **empty,
        notices=[Notice(part, offset, key or b"", value) for part, offset, key, value in columns],
    )


def accepted_block(
    block: CheckedBlock,
    places: Sequence[int],
    *,
    watermark_ms: int,
    zones: Mapping[int, str],
) -> AcceptedBlock:
    """The events at these places of a checked block; `zones` where one is known, by place.

    Shapes: every place has a ticket and a body.
    """
    raw = block.raw
    tickets = [ticket for place in places if (ticket := block.tickets[place]) is not None]
    return AcceptedBlock(
        lane=raw.lane,
        topic=raw.topic,
        received_ms=raw.received_ms,
        watermark_ms=watermark_ms,
        partitions=[raw.partitions[place] for place in places],
        offsets=[raw.offsets[place] for place in places],
        labels=[ticket.label for ticket in tickets],
        ids=[ticket.id for ticket in tickets],
        times_ms=[ticket.time_ms for ticket in tickets],
        recorded_ms=[
            raw.timestamps[place] if ticket.recorded_ms is None else ticket.recorded_ms
            for place, ticket in zip(places, tickets, strict=True)
        ],
        subjects=[ticket.subject for ticket in tickets],
        journeys=[ticket.correlation for ticket in tickets],
        causes=[ticket.causation for ticket in tickets],
        hops=[ticket.hops for ticket in tickets],
        zones=[zones.get(place, "") for place in places],
        bodies=[block.bodies[place] for place in places],
    )
