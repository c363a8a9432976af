"""Tell of exceptions: as rows of `process_exceptions`, and as records of `ntf.exceptions.v1`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import orjson

from flows.journey.story import CHANNELS, HOLDOUT, Story, moments_of
from flows.process.watch import Exceptional
from schemas.blocks import ORIGIN_HEADER, AcceptedBlock, Origin, OutRecord, Rows, rows_of
from schemas.process_exception import DETECTED, EXCEPTIONS_TOPIC
from schemas.ticket import Header, format_time, hash64
from schemas.topics_catalog import load_topics

ORDINAL_OF_EXCEPTIONS: Final = 1_000_000_000
"""Of the first exception that a block leads to; far above those of outcomes and time-outs."""

SOURCE: Final = "/airside/journey"
_ABOUT: Final = "behaviour"

COLUMNS: Final = (
    "journey",
    "rule",
    "at",
    "kind",
    "process",
    "act",
    "previous",
    "allowed_s",
    "notification",
    "subject",
    "campaign",
    "tenant",
    "channel",
    "arm",
    "purpose",
    "class",
    "sensitivity",
    "expires_at",
    "ver",
)


def _channel(story: Story) -> str:
    channels = [moment.channel for moment in moments_of(story) if moment.channel]
    return CHANNELS[channels[-1]] if channels else ""


def exception_rows(process: str, found: Sequence[Exceptional]) -> Rows:
    """The rows of `process_exceptions`."""
    lines = [
        (
            journey,
            finding.rule,
            finding.at_ms,
            finding.kind,
            process,
            finding.act,
            finding.previous,
            finding.allowed_s,
            story.notification,
            story.subject,
            story.campaign,
            story.tenant,
            _channel(story),
            story.arm or (HOLDOUT if story.held_out else ""),
            story.purpose,
            story.classes,
            story.sensitivity,
            story.expires_day,
            story.n,
        )
        for journey, story, finding in found
    ]
    return rows_of("process_exceptions", COLUMNS, lines)


def exception_records(
    process: str, found: Sequence[Exceptional], block: AcceptedBlock
) -> list[OutRecord]:
    """The records of those that the topic may carry; their origin ends the block."""
    told = [one for one in found if _may_publish(one.story.classes)]
    return [
        _record(process, one, block, ORDINAL_OF_EXCEPTIONS + number)
        for number, one in enumerate(told)
    ]


def _may_publish(classes: str) -> bool:
    return set(classes.split(",")) <= set(load_topics()[EXCEPTIONS_TOPIC].classes)


def _record(process: str, one: Exceptional, block: AcceptedBlock, ordinal: int) -> OutRecord:
    journey, story, finding = one
    event = f"{hash64(f'{journey} {finding.rule} {finding.at_ms}'.encode()):016x}"
    body = {
        "exception_id": event,
        "rule": finding.rule,
        "kind": finding.kind,
        "at": format_time(finding.at_ms).decode(),
        "process": process,
        "act": finding.act,
        "previous": finding.previous,
        "allowed_s": finding.allowed_s or None,
        "journey_id": journey,
        "notification_id": story.notification,
        "subject": story.subject,
        "campaign": story.campaign,
        "tenant": story.tenant,
        "channel": _channel(story),
        "arm": story.arm or (HOLDOUT if story.held_out else ""),
    }
    origin = Origin(block.topic, block.partitions[-1], block.offsets[-1], ordinal)
    headers: list[Header] = [
        ("ce_specversion", b"1.0"),
        ("ce_id", f"exc-{event}".encode()),
        ("ce_source", SOURCE.encode()),
        ("ce_type", DETECTED.encode()),
        ("ce_time", format_time(finding.at_ms)),
        ("content-type", b"application/json"),
        ("ce_datapurpose", story.purpose.encode()),
        ("ce_dataclassification", story.classes.encode()),
        ("ce_correlationid", journey.encode()),
        ("ce_subject", story.subject.encode()),
        ("ce_datacategory", _ABOUT.encode()),
        (ORIGIN_HEADER, str(origin).encode()),
    ]
    named = {name: value for name, value in body.items() if value not in (None, "")}
    return OutRecord(EXCEPTIONS_TOPIC, story.subject.encode(), orjson.dumps(named), headers, origin)
