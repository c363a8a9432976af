"""Make the records that leave: routed ones with a stamped ticket, refused ones sealed."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Final

import numpy as np
import orjson

from flows.steps.seal import Sealer, message_bytes
from flows.steps.write_facts import Accepted, Refused
from schemas.blocks import ORIGIN_HEADER, Origin, OutRecord, RawBlock
from schemas.codes import Door
from schemas.columns import encode_all, format_times
from schemas.few import are_few
from schemas.hops import Hop, append_hop, base36_all
from schemas.records import Stamped
from schemas.ticket import (
    Header,
    Label,
    encode_ticket,
    format_time,
    hash64,
    label_with_policy,
    pass_gate,
)
from schemas.tickets import NO_TIME, Numbers, Tickets

QUARANTINE_TOPIC: Final = "ntf.quarantine.v1"
LATE_TOPIC: Final = "ntf.late.v1"
ZONE_HEADER: Final = "ce_subjectzone"
GATE_HEADERS: Final = frozenset((ORIGIN_HEADER, ZONE_HEADER))
STAGE: Final = "ro"
_topic_of = attrgetter("decision.topic")
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

    def routed(self, events: Accepted, *, received_ms: int) -> Stamped | list[OutRecord]:
        """The events as they came, with one more hop; zones where they may be known."""
        parts, offsets = events.partitions.tolist(), events.offsets.tolist()
        topic = events.topic
        told = encode_all(
            [f"{topic}/{part}/{offset}/0" for part, offset in zip(parts, offsets, strict=True)]
        )
        own: list[tuple[str, list[bytes | None]]] = [
            (ZONE_HEADER, [zone.encode() if zone else None for zone in events.zones]),
            (ORIGIN_HEADER, [*told]),
        ]
        if self._key is None:
            return self._stamped(events, received_ms, own)
        return self._signed(events, received_ms, own)

    def _signed(
        self, events: Accepted, received_ms: int, own: list[tuple[str, list[bytes | None]]]
    ) -> list[OutRecord]:
        """Each stamped ticket, signed; the headers that only a gate may set are ours."""
        records = []
        names = [name for name, _ in own]
        rows = zip(
            events.tickets,
            events.partitions.tolist(),
            events.offsets.tolist(),
            events.recorded_ms.tolist(),
            events.keys,
            events.values,
            zip(*(cells for _, cells in own), strict=True),
            strict=True,
        )
        for ticket, part, offset, recorded_ms, key, value, last in rows:
            assert ticket is not None
            hop = Hop(STAGE, self.node, received_ms, "")
            passed = pass_gate(ticket, hop=hop, policy=self._policy, recorded_ms=recorded_ms)
            headers = encode_ticket(passed, self._key)
            kept = [header for header in headers if header[0] not in GATE_HEADERS]
            kept += [(name, cell) for name, cell in zip(names, last, strict=True) if cell]
            origin = Origin(events.topic, part, offset)
            records.append(OutRecord(_topic_of(ticket.label), key, value, kept, origin))
        return records

    def _stamped(
        self, events: Accepted, received_ms: int, own: list[tuple[str, list[bytes | None]]]
    ) -> Stamped:
        """The same by column, without a signature."""
        tickets = events.tickets
        base_ms = tickets.recorded_ms.copy()
        np.copyto(base_ms, events.recorded_ms, where=base_ms == NO_TIME)
        columns: list[tuple[str, Sequence[bytes | None]]] = [
            ("ce_id", _texts(tickets.ids)),
            ("ce_time", format_times(tickets.times_ms)),
            ("ce_correlationid", _texts(tickets.correlations)),
            ("ce_subject", _texts(tickets.subjects)),
            ("ce_causationid", _texts(tickets.causations)),
            ("ce_datahops", encode_all(self._hops(tickets.hops, received_ms - base_ms))),
            ("ce_recordedtime", format_times(base_ms)),
            ("ce_expirytime", _times_or_none(tickets.expiry_ms)),
            ("traceparent", tickets.traceparents),
            ("tracestate", tickets.tracestates),
        ]
        rests: list[tuple[Header, ...]] = []
        if any(tickets.rests):
            rests = _behind(tickets.rests, own)
        else:
            columns += own
        numbers, labels = _used(tickets)
        listed = [(name, list(cells)) for name, cells in columns]
        return Stamped(
            source=events.topic,
            partitions=events.partitions,
            offsets=events.offsets,
            topics=[_topic_of(label) for label in labels],
            labels=[list(label_with_policy(label, self._policy).pairs) for label in labels],
            numbers=numbers,
            # An empty header is one, too.
            columns=[(name, cells) for name, cells in listed if cells.count(None) < len(cells)],
            rests=rests,
            keys=list(events.keys),
            values=list(events.values),
        )

    def _hops(self, histories: Sequence[str], deltas_ms: Numbers) -> list[str]:
        """Each history with this gate behind it."""
        here = f"{STAGE}.{self.node}."
        added = [here + digits for digits in base36_all(deltas_ms)]
        if not any(histories):
            return added
        return [
            append_hop(text, Hop(STAGE, self.node, delta_ms, "")) if text else new
            for text, new, delta_ms in zip(histories, added, deltas_ms.tolist(), strict=True)
        ]

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


def _used(tickets: Tickets) -> tuple[Numbers, list[Label]]:
    """The labels that these tickets have; others of their block lead to topics of nobody's."""
    labels, numbers = tickets.labels, tickets.numbers
    if are_few(numbers):
        used = sorted(set(numbers.tolist()))
    else:
        used = np.flatnonzero(np.bincount(numbers, minlength=len(labels))).tolist()
    if len(used) == len(labels):
        return numbers, labels
    back = np.zeros(len(labels), np.int64)
    back[used] = np.arange(len(used))
    return back[numbers], [labels[number] for number in used]


def _behind(
    rests: Sequence[tuple[Header, ...]], own: Sequence[tuple[str, Sequence[bytes | None]]]
) -> list[tuple[Header, ...]]:
    """The headers of others, then those that only a gate sets."""
    names = [name for name, _ in own]
    return [
        (
            *(header for header in rest if header[0] not in GATE_HEADERS),
            *((name, cell) for name, cell in zip(names, cells, strict=True) if cell is not None),
        )
        for rest, cells in zip(rests, zip(*(cells for _, cells in own), strict=True), strict=True)
    ]


def _texts(words: Sequence[str]) -> Sequence[bytes | None]:
    """A column of headers; none where there is no text."""
    if not any(words):
        return ()
    encoded = encode_all(words)
    return encoded if all(words) else [cell or None for cell in encoded]


def _times_or_none(at_ms: Numbers) -> Sequence[bytes | None]:
    missing = (at_ms == NO_TIME).tolist()
    if all(missing):
        return ()
    texts = format_times(np.maximum(at_ms, 0))
    return [None if gone else text for gone, text in zip(missing, texts, strict=True)]
