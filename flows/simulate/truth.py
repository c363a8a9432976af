"""The truth of a run: what was sent, and what has to have become of it, to the message.

Everything is worked out from the world's own events and the documented definitions, in plain
arithmetic; nothing here calls the steps that it judges.
"""

from __future__ import annotations

import gzip
import zlib
from array import array
from bisect import bisect_right
from collections import Counter
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import msgspec
import orjson

from flows.simulate.events import Event, Message
from flows.simulate.expected import Happening, happening_of
from schemas.codes import Door

NO_HOUR: Final = 255
"""The local hour of an event whose person's zone is not known."""

_MINUTE_MS: Final = 60_000
_BUCKETS: Final = 32
_EDGES: Final = [2**power for power in range(_BUCKETS - 1)]

Place = tuple[str, int, int]
"""Topic, partition, offset: where a message lies in Kafka."""

CellKey = tuple[int, str, str, str, str, str, str]
"""Minute since 1970, event type, campaign, channel, classes, currency, arm."""


class Fact(msgspec.Struct, frozen=True, gc=False):
    """What the facts table has to say about one accepted event.

    Units: times in milliseconds since 1970 UTC; the amount in minor units of its currency.
    """

    event_id: str
    event_type: str
    source: str
    event_time: int
    recorded_at: int
    purpose: str
    class_text: str
    sensitivity: int
    category: tuple[str, ...]
    subject: str
    journey: str
    notification: str
    cause: str
    trace_id: str
    campaign: str
    tenant: str
    channel: str
    arm: str
    reason: str
    amount_minor: int
    currency: str
    zone: str
    local_hour: int
    warnings: tuple[str, ...]


class Fate(msgspec.Struct, frozen=True, gc=False):
    """What was sent, and what has to become of it.

    Shapes: `number` counts from the first message sent; `fault` is the kind of fault, empty for
    none; `routed` is a topic, empty for a refused message; `check` the CRC-32 of key and body.
    """

    number: int
    id: str
    fault: str
    door: Door
    code: str
    routed: str
    check: int


class Cell(msgspec.Struct, gc=False):
    """One rollup cell. Shapes: 32 buckets of latency."""

    n: int
    amount_minor: int
    histogram: array[int]


def bucket(latency_ms: int) -> int:
    """The histogram bucket of one latency, by its documented edges.

    Bucket 0 is 0 ms (and clocks that differ), bucket i is [2^(i-1), 2^i) ms, the last one the rest.

    >>> [bucket(ms) for ms in (-5, 0, 1, 2, 3, 4, 2**40)]
    [0, 0, 1, 2, 2, 3, 31]
    """
    return bisect_right(_EDGES, latency_ms)


def checksum(key: bytes | None, value: bytes | None) -> int:
    """A number that tells whether a message left as it came."""
    return zlib.crc32(value or b"", zlib.crc32(key or b""))


@lru_cache(maxsize=1_024)
def _clock(zone: str) -> ZoneInfo:
    return ZoneInfo(zone)


def local_hour(zone: str, at_ms: int) -> int:
    """The hour of the week on a zone's clock, Monday 00:00 first; `NO_HOUR` without a zone.

    >>> local_hour("Asia/Kathmandu", 1_767_571_200_000)  # Monday 2026-01-05 00:00 UTC
    5
    """
    if not zone:
        return NO_HOUR
    moment = datetime.fromtimestamp(at_ms // 1_000, _clock(zone))
    return moment.weekday() * 24 + moment.hour


def fact_of(event: Event, recorded_ms: int) -> Fact:
    """What has to be written about an accepted event that Kafka recorded at a time."""
    label, body = event.label, event.body
    return Fact(
        event_id=event.id,
        event_type=label.type,
        source=label.source,
        event_time=event.time_ms,
        recorded_at=recorded_ms,
        purpose=label.purpose,
        class_text=label.classes,
        sensitivity=label.rank,
        category=label.categories,
        subject=event.subject,
        journey=event.journey,
        notification=body.get("notification_id", ""),
        cause=event.cause,
        trace_id=event.trace_id,
        campaign=body.get("campaign", ""),
        tenant=body.get("tenant", ""),
        channel=body.get("channel", ""),
        arm=body.get("arm", ""),
        reason=body.get("reason", ""),
        amount_minor=body.get("amount_minor", 0),
        currency=body.get("currency", ""),
        zone=event.zone,
        local_hour=local_hour(event.zone, event.time_ms),
        warnings=event.warnings,
    )


class Truth:
    """Accumulates what was sent and what has to come of it.

    Shapes: `fates` and `facts` by place; `cells` by key; what happened in `journeys` by journey.
    State: grows with the messages, by about half a kilobyte for each.
    """

    def __init__(self) -> None:
        self.fates: dict[Place, Fate] = {}
        self.facts: dict[Place, Fact] = {}
        self.cells: dict[CellKey, Cell] = {}
        self.journeys: dict[str, list[Happening]] = {}

    @property
    def total(self) -> int:
        """Messages that Kafka confirmed."""
        return len(self.fates)

    def doors(self) -> Counter[str]:
        """Messages by door."""
        return Counter(fate.door.value for fate in self.fates.values())

    def codes(self) -> Counter[str]:
        """Refused messages by code."""
        return Counter(fate.code for fate in self.fates.values() if fate.code)

    def faults(self) -> Counter[str]:
        """Messages by kind of fault; those without one are not counted."""
        return Counter(fate.fault for fate in self.fates.values() if fate.fault)

    def note(self, message: Message, *, partition: int, offset: int, recorded_ms: int) -> None:
        """Take in one message that Kafka confirmed at a place, with the time it recorded."""
        place = (message.topic, partition, offset)
        self.fates[place] = Fate(
            number=message.number,
            id=message.id,
            fault=message.fault,
            door=message.door,
            code=message.code,
            routed=message.routed,
            check=checksum(message.key, message.value),
        )
        if message.event is not None:
            fact = fact_of(message.event, recorded_ms)
            self.facts[place] = fact
            self._add(fact)
            hops = next((text for name, text in message.headers if name == "ce_datahops"), None)
            happening = happening_of(message.event, hops.count(b">") + 1 if hops else 0)
            if happening is not None:
                self.journeys.setdefault(happening.journey, []).append(happening)

    def _add(self, fact: Fact) -> None:
        key = (
            fact.event_time // _MINUTE_MS,
            fact.event_type,
            fact.campaign,
            fact.channel,
            fact.class_text,
            fact.currency,
            fact.arm,
        )
        cell = self.cells.get(key)
        if cell is None:
            cell = self.cells[key] = Cell(0, 0, array("q", bytes(8 * _BUCKETS)))
        cell.n += 1
        cell.amount_minor += fact.amount_minor
        cell.histogram[bucket(fact.recorded_at - fact.event_time)] += 1

    def write(self, path: Path) -> None:
        """Write one JSON line for each message, compressed, in the order of sending."""
        order = sorted(self.fates.items(), key=lambda item: item[1].number)
        with gzip.open(path, "wb", compresslevel=3) as file:
            for (topic, partition, offset), fate in order:
                line: dict[str, Any] = {"topic": topic, "partition": partition, "offset": offset}
                line |= msgspec.structs.asdict(fate)
                del line["check"]
                file.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
