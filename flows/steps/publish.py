"""Make the records that leave: routed ones with a stamped ticket, refused ones sealed."""

from __future__ import annotations

from typing import Final

import orjson

from flows.steps.seal import Sealer, message_bytes
from flows.steps.write_facts import Accepted, Refused
from schemas.blocks import Origin, OutRecord, RawBlock
from schemas.codes import Door
from schemas.hops import Hop
from schemas.policy import RANK_OF_A_PERSON
from schemas.ticket import Header, encode_ticket, format_time, hash64, pass_gate

QUARANTINE_TOPIC: Final = "ntf.quarantine.v1"
LATE_TOPIC: Final = "ntf.late.v1"
ORIGIN_HEADER: Final = "airside-origin"
ZONE_HEADER: Final = "ce_subjectzone"
GATE_HEADERS: Final = frozenset((ORIGIN_HEADER, ZONE_HEADER))
STAGE: Final = "ro"
SEALED_BYTES_MAX: Final = 3_000_000
"""Larger refused messages are told about, but not kept: they would not fit a record."""


class Publisher:
    """Builds outgoing records for one gate.

    Delivery: the records of one origin have the same id whenever they are built again; the
    sealed body differs, since every sealing draws a nonce.
    """

    def __init__(self, *, node: str, policy: int, sealer: Sealer, key: bytes | None) -> None:
        self.node = node
        self._policy = policy
        self._sealer = sealer
        self._key = key

    def routed(self, event: Accepted, raw: RawBlock, place: int) -> OutRecord:
        """The event as it came, with one more hop; its person's zone where that may be known."""
        ticket = pass_gate(
            event.ticket,
            hop=Hop(STAGE, self.node, raw.received_ms, ""),
            policy=self._policy,
            recorded_ms=event.recorded_ms,
        )
        headers = encode_ticket(ticket, self._key)
        if ticket.rest:
            # What a gate states is the gate's to write: nobody upstream can say it for us.
            headers = [header for header in headers if header[0] not in GATE_HEADERS]
        if event.zone and ticket.label.decision.rank >= RANK_OF_A_PERSON:
            headers.append((ZONE_HEADER, event.zone.encode()))
        headers.append((ORIGIN_HEADER, str(event.origin).encode()))
        topic = event.ticket.label.decision.topic
        return OutRecord(topic, raw.keys[place], raw.values[place], headers, event.origin)

    def refused(
        self, message: Refused, raw: RawBlock, place: int, *, discard: bool
    ) -> OutRecord | None:
        """The refused message, sealed, with its code and pointer; None for the dropped door.

        One larger than `SEALED_BYTES_MAX` is told about, without its content.
        `discard`: its class may not be kept even sealed, so only the notice is published.
        """
        door = message.refusal.door
        if door is Door.DROPPED:
            return None
        about = str(message.origin)
        sealed = None
        if not discard:
            whole = message_bytes(raw.keys[place], raw.headers[place], raw.values[place])
            # A message that is too large to be sealed and sent must not stop the worker.
            if len(whole) <= SEALED_BYTES_MAX:
                sealed = self._sealer.seal(whole, about=about)
        notice = {
            "code": message.refusal.code,
            "pointer": message.refusal.pointer,
            "reason": message.refusal.reason,
            "door": door.value,
            "origin": about,
            "event_id": message.event_id,
            "event_source": message.source,
            "event_type": message.event_type,
            "purpose": message.purpose,
            "class": message.class_text,
            "sealed": sealed,
        }
        topic = LATE_TOPIC if door is Door.LATE else QUARANTINE_TOPIC
        headers = _notice_headers(message.origin, message.recorded_ms, door)
        return OutRecord(topic, about.encode(), orjson.dumps(notice), headers, message.origin)


def _notice_headers(origin: Origin, recorded_ms: int, door: Door) -> list[Header]:
    about = str(origin).encode()
    return [
        ("ce_specversion", b"1.0"),
        ("ce_id", f"{hash64(about):016x}".encode()),
        ("ce_source", b"/airside/ingest"),
        ("ce_type", f"airside.message.{door.value}.v1".encode()),
        ("ce_time", format_time(max(recorded_ms, 0))),
        ("content-type", b"application/json"),
        ("ce_datapurpose", b"ops_monitoring"),
        # Sealed, so nothing personal is readable; who may open it is a matter of the key.
        ("ce_dataclassification", b"CONFIDENTIAL"),
        ("ce_correlationid", about.replace(b"/", b".")[:64]),
        (ORIGIN_HEADER, about),
    ]
