"""Make the records that tell of findings, each with a place of its own among a block's outputs."""

from __future__ import annotations

from typing import Any, Final

import orjson

from schemas.blocks import ORIGIN_HEADER, AcceptedBlock, Origin, OutRecord
from schemas.quality_found import FOUND, QUALITY_TOPIC
from schemas.ticket import Header, format_time, hash64

ORDINAL: Final = 1_000_000
"""Of the first finding that a block leads to; the others follow."""

SOURCE: Final = b"/airside/quality"
_TEXT_MAX: Final = 256


def finding(block: AcceptedBlock, number: int, body: dict[str, Any]) -> OutRecord:
    """The record of one finding, whose minute is at `at_ms`; its origin ends the block."""
    at_ms = body["at_ms"]
    named = {
        name: value[:_TEXT_MAX] if isinstance(value, str) else value
        for name, value in body.items()
        if name != "at_ms"
    }
    told = {**named, "minute": format_time(at_ms).decode(), "lane": block.lane}
    origin = Origin(block.topic, block.partitions[-1], block.offsets[-1], ORDINAL + number)
    value = orjson.dumps(told)
    event_id = f"qua-{hash64(value):016x}".encode()
    headers: list[Header] = [
        ("ce_specversion", b"1.0"),
        ("ce_id", event_id),
        ("ce_source", SOURCE),
        ("ce_type", FOUND.encode()),
        ("ce_time", format_time(at_ms)),
        ("content-type", b"application/json"),
        ("ce_datapurpose", b"ops_monitoring"),
        ("ce_dataclassification", b"INTERNAL"),
        ("ce_correlationid", event_id),
        (ORIGIN_HEADER, str(origin).encode()),
    ]
    return OutRecord(QUALITY_TOPIC, str(told["dataset"]).encode(), value, headers, origin)
