"""What the world sends: events with their labels, and messages as Kafka takes them."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

import msgspec
import orjson

from schemas.codes import Door
from schemas.ticket import Header

TOPICS: Final = {
    "request": "ntf.requests.v1",
    "journey": "ntf.requests.v1",
    "orchestration": "ntf.requests.v1",
    "delivery": "ntf.delivery.v1",
    "engagement": "ntf.engagement.v1",
    "outcome": "ntf.engagement.v1",
    "profile": "ntf.profiles.v1",
}
RANKS: Final = {"PUBLIC": 0, "INTERNAL": 1, "CONFIDENTIAL": 2, "PSEUDO": 2, "PII": 3, "GDPR": 4}
RANKS_HIGHEST: Final = {"PCI": 5, "PHI": 5, "SPECIAL": 5}
RANK_OF_A_PERSON: Final = 3


class Label(msgspec.Struct, frozen=True, eq=False):
    """What recurs from event to event, and its headers. Shapes: `classes` sorted, with commas."""

    type: str
    topic: str
    source: str
    purpose: str
    classes: str
    categories: tuple[str, ...]
    rank: int
    routed: str
    headers: tuple[Header, ...]


class Event(msgspec.Struct):
    """One thing that happened, before it becomes bytes.

    Shapes: `subject` empty for events about nobody, whose `key` is their id; `zone` is the one of
    the published profile, empty without one and for classes below PII; `extras` are further
    headers.
    """

    label: Label
    id: str
    time_ms: int
    journey: str
    subject: str
    key: bytes
    cause: str
    body: dict[str, Any]
    zone: str = ""
    extras: tuple[Header, ...] = ()
    warnings: tuple[str, ...] = ()
    trace_id: str = ""


class Message(msgspec.Struct):
    """One message as it is sent, and what has to become of it.

    Shapes: `fault` empty for a message without one; `routed` and `event` are set for accepted
    messages only. Units: `timestamp_ms` since 1970 UTC, for the Kafka record.
    """

    number: int
    topic: str
    key: bytes | None
    headers: list[Header]
    value: bytes | None
    timestamp_ms: int
    id: str
    fault: str = ""
    door: Door = Door.ROUTED
    code: str = ""
    routed: str = ""
    event: Event | None = None


@lru_cache(maxsize=4_096)
def label_of(
    kind: str, source: str, purpose: str, classes: str, categories: tuple[str, ...]
) -> Label:
    """The label of these parts; the rank and the routed topic follow from the classes."""
    names = classes.split(",")
    rank = max((RANKS | RANKS_HIGHEST)[name] for name in names)
    routed = "open" if rank < RANK_OF_A_PERSON else "restricted"
    headers = [
        ("ce_specversion", b"1.0"),
        ("ce_source", source.encode()),
        ("ce_type", kind.encode()),
        ("content-type", b"application/json"),
        ("ce_datapurpose", purpose.encode()),
        ("ce_dataclassification", classes.encode()),
    ]
    if categories:
        headers.append(("ce_datacategory", ",".join(categories).encode()))
    return Label(
        type=kind,
        topic=TOPICS[kind.split(".")[1]],
        source=source,
        purpose=purpose,
        classes=classes,
        categories=categories,
        rank=rank,
        routed=f"ntf.routed.{'pci' if 'PCI' in names else routed}.v1",
        headers=tuple(headers),
    )


@lru_cache(maxsize=256)
def _second_text(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def time_text(at_ms: int) -> str:
    """A time as RFC 3339 in UTC with milliseconds.

    >>> time_text(1_250)
    '1970-01-01T00:00:01.250Z'
    """
    return f"{_second_text(at_ms // 1_000)}.{at_ms % 1_000:03d}Z"


def headers_of(event: Event) -> list[Header]:
    """The ticket of an event as Kafka headers."""
    headers = [
        *event.label.headers,
        ("ce_id", event.id.encode()),
        ("ce_time", time_text(event.time_ms).encode()),
        ("ce_correlationid", event.journey.encode()),
    ]
    if event.subject:
        headers.append(("ce_subject", event.key))
    if event.cause:
        headers.append(("ce_causationid", event.cause.encode()))
    headers.extend(event.extras)
    return headers


def message_of(event: Event, timestamp_ms: int) -> Message:
    """The message of an event that is as it should be."""
    return Message(
        number=-1,
        topic=event.label.topic,
        key=event.key,
        headers=headers_of(event),
        value=orjson.dumps(event.body),
        timestamp_ms=timestamp_ms,
        id=event.id,
        routed=event.label.routed,
        event=event,
    )
