"""Put accepted events into the columns that followers read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from operator import attrgetter
from typing import Any, Final

import numpy as np

from flows.steps.write_facts import Accepted
from schemas.blocks import AcceptedBlock, CheckedBlock, Notice, Outputs, RawBlock
from schemas.bodies import Bodies, bodies_at
from schemas.events import COLUMNS
from schemas.events.plan import NUMBERS
from schemas.hops import clock_went_back, parse_hops
from schemas.tickets import NO_TIME, Tickets, columns_at

_PARTS: Final = {
    name: attrgetter(name) for name in COLUMNS if name not in ("journey_id", "subject")
}
"""What the rows tell of a body; journey and subject are told from its ticket."""

_OWN: Final = ("notification_id",)
"""Columns where nearly each event has another text."""

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
    empty: dict[str, Any] = {name: [] for name in _COLUMNS}
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
    raw, tickets = block.raw, block.tickets
    take = columns_at(places, len(raw.offsets))
    times = take(tickets.times_ms.tolist())
    recorded = take(tickets.recorded_ms.tolist())
    return AcceptedBlock(
        lane=raw.lane,
        topic=raw.topic,
        received_ms=raw.received_ms,
        watermark_ms=watermark_ms,
        partitions=take(raw.partitions),
        offsets=take(raw.offsets),
        labels=[tickets.labels[number] for number in take(tickets.numbers.tolist())],
        ids=take(tickets.ids),
        times_ms=times,
        recorded_ms=[
            at_ms if at_ms != NO_TIME else of_record
            for at_ms, of_record in zip(recorded, take(raw.timestamps), strict=True)
        ],
        subjects=take(tickets.subjects),
        journeys=take(tickets.correlations),
        causes=take(tickets.causations),
        hops=take(tickets.hops),
        zones=[zones.get(place, "") for place in places],
        bodies=bodies_at(block.bodies, places),
    )


def tell_refused(
    outputs: Outputs, block: CheckedBlock, refused: dict[tuple[str, str], int]
) -> Outputs:
    """The outputs with what followers may know of refusals: how many by source and code."""
    accepted = outputs.accepted
    if accepted is None:
        empty = accepted_block(block, [], watermark_ms=0, zones={})
        empty.refused = dict(refused)
        return outputs._replace(only_refused=empty)
    accepted.refused = dict(refused)
    return outputs


def accepted_events(
    block: CheckedBlock, places: Sequence[int], tickets: Tickets | None = None
) -> Accepted:
    """The events at these places by column, as far as a block alone tells of them.

    Shapes: places rise; every one has a ticket and a body. `tickets` are those of the places,
    where somebody took them out already.
    """
    raw = block.raw
    take = columns_at(places, len(raw.offsets))
    if tickets is None:
        tickets = block.tickets.at(places)
    nothing = np.zeros(len(places), np.bool_)
    back = nothing
    if any(tickets.hops):
        back = np.array([went_back(text) for text in tickets.hops], np.bool_)
    return Accepted(
        topic=raw.topic,
        tickets=tickets,
        partitions=np.array(take(raw.partitions), np.int64),
        offsets=np.array(take(raw.offsets), np.int64),
        recorded_ms=np.array(take(raw.timestamps), np.int64),
        keys=take(raw.keys),
        values=take(raw.values),
        bodies=_parts_of(block.bodies, places),
        zones=[""] * len(places),
        unknown=nothing,
        back=back,
    )


def _parts_of(bodies: Sequence[Any], places: Sequence[int]) -> dict[str, Any]:
    """What the rows tell of these bodies, out of the library's memory where they are in it."""
    if isinstance(bodies, Bodies):
        return {name: _part_of(bodies, name, places) for name in _PARTS}
    taken = columns_at(places, len(bodies))(bodies)
    return {name: list(map(of, taken)) for name, of in _PARTS.items()}


def _part_of(bodies: Bodies, name: str, places: Sequence[int]) -> Any:
    if name in NUMBERS:
        return bodies.numbers(name, places)
    return bodies.texts(name, places) if name in _OWN else bodies.words(name, places)


@lru_cache(maxsize=8_192)
def went_back(text: str) -> bool:
    """Tell whether a history says that a clock went back."""
    hops = parse_hops(text) if text else []
    return isinstance(hops, list) and clock_went_back(hops)
