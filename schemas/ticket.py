"""The ticket: what every message's headers state about its body.

CloudEvents 1.0, Kafka binary mode: one UTF-8 header per attribute. Attributes that recur from
message to message (type, source, purpose, classes …) are checked once and interned as a `Label`;
a ticket is a label plus what differs in each message.
Source: CloudEvents 1.0 Kafka binding and its extensions; DESIGN section 2.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from base64 import urlsafe_b64encode
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final

import msgspec

from schemas.hops import Hop, append_hop
from schemas.policy import Decision

TICKET_BYTES_MAX: Final = 1_024
HEADERS_BYTES_MAX: Final = 16_384
"""Of all headers together, the unknown ones too."""

Header = tuple[str, bytes | None]

PLAIN_FORMS: Final = {
    "purpose": "ce_datapurpose",
    "classification": "ce_dataclassification",
}
"""Short forms that ingress accepts and normalises once."""

REQUIRED: Final = (
    "ce_specversion",
    "ce_id",
    "ce_source",
    "ce_type",
    "ce_time",
    "content-type",
    "ce_datapurpose",
    "ce_dataclassification",
    "ce_correlationid",
)
OPTIONAL: Final = (
    "ce_subject",
    "ce_datacategory",
    "ce_datapolicy",
    "ce_datahops",
    "ce_causationid",
    "ce_dataregulation",
    "ce_dataschema",
    "ce_recordedtime",
    "ce_expirytime",
    "ce_ticketmac",
    "traceparent",
    "tracestate",
)
ATTRIBUTES: Final = REQUIRED + OPTIONAL
LABEL_NAMES: Final = (
    "ce_specversion",
    "ce_source",
    "ce_type",
    "content-type",
    "ce_datapurpose",
    "ce_dataclassification",
    "ce_datacategory",
    "ce_datapolicy",
    "ce_dataregulation",
    "ce_dataschema",
)
"""The attributes that recur, and make a label together."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MS: Final = timedelta(milliseconds=1)
_SECOND: Final = timedelta(seconds=1)
_CANONICAL_BYTES: Final = len("1970-01-01T00:00:00.000Z")
_TO_THE_SECOND: Final = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")
_RFC3339: Final = re.compile(
    rb"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:[Zz]|[+-]\d\d:\d\d)"
)


class Label(msgspec.Struct, frozen=True, gc=False, eq=False):
    """The part of a ticket that recurs: interned, so equal labels are one object.

    Shapes: `pairs` are its headers in canonical form; `identity` is a 64-bit hash of the source.
    One that comes from another process is interned again.
    """

    type: str
    source: str
    purpose: str
    classes: tuple[str, ...]
    categories: tuple[str, ...]
    policy: int | None
    regulation: str
    dataschema: str
    decision: Decision
    pairs: tuple[tuple[str, bytes], ...]
    identity: int

    @property
    def class_text(self) -> str:
        """The class set as it stands in the header: sorted, joined by commas."""
        return ",".join(self.classes)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by the fields, to be interned where it is read."""
        return intern_label, msgspec.structs.astuple(self)


@lru_cache(maxsize=4_096)
def intern_label(*fields: Any) -> Label:
    """The one label of this process with these fields, in their order."""
    return Label(*fields)


class Ticket(msgspec.Struct, frozen=True, gc=False):
    """One message's ticket, checked.

    Units: times in milliseconds since 1970 UTC. `rest` holds unknown headers, verbatim.
    """

    label: Label
    id: str
    time_ms: int
    correlation: str
    subject: str = ""
    causation: str = ""
    hops: str = ""
    recorded_ms: int | None = None
    expiry_ms: int | None = None
    traceparent: bytes | None = None
    tracestate: bytes | None = None
    mac: bytes | None = None
    rest: tuple[Header, ...] = ()


def parse_time(text: bytes) -> int | None:
    """Read an RFC 3339 time.

    Units: milliseconds since 1970 UTC, rounded down; None when it is not RFC 3339 or is earlier.

    >>> parse_time(b"1970-01-01T01:00:00.250+01:00")
    250
    """
    if len(text) == _CANONICAL_BYTES and text[19:20] == b"." and text[23:] == b"Z":
        fraction = text[20:23]
        seconds = _seconds_of(text[:19])
        if seconds is not None and fraction.isdigit():
            return seconds * 1_000 + int(fraction) if seconds >= 0 else None
    if not _RFC3339.fullmatch(text):
        return None
    try:
        moment = datetime.fromisoformat(text.decode("ascii").upper())
        elapsed = (moment - _EPOCH) // _MS
    except (ValueError, OverflowError):
        return None
    return elapsed if elapsed >= 0 else None


@lru_cache(maxsize=8_192)
def _seconds_of(text: bytes) -> int | None:
    """Read `2026-01-05T10:00:00` as UTC; many messages share a second, so this is remembered."""
    if not _TO_THE_SECOND.fullmatch(text):
        return None
    try:
        return (datetime.fromisoformat(text.decode("ascii") + "Z") - _EPOCH) // _SECOND
    except (ValueError, OverflowError):
        return None


def format_time(at_ms: int) -> bytes:
    """Write a time as RFC 3339 with milliseconds, in UTC.

    >>> format_time(250)
    b'1970-01-01T00:00:00.250Z'
    """
    seconds, ms = divmod(at_ms, 1_000)
    return b"%b.%03dZ" % (_text_of(seconds), ms)


@lru_cache(maxsize=8_192)
def _text_of(seconds: int) -> bytes:
    return (_EPOCH + timedelta(seconds=seconds)).replace(tzinfo=None).isoformat().encode()


def encode_ticket(ticket: Ticket, key: bytes | None = None) -> list[Header]:
    """Write a ticket as Kafka headers in canonical form, signed when a key is given.

    Delivery: reading the result gives an equal ticket, but for the signature.
    """
    headers: list[Header] = list(ticket.label.pairs)
    headers.append(("ce_id", ticket.id.encode()))
    headers.append(("ce_time", format_time(ticket.time_ms)))
    headers.append(("ce_correlationid", ticket.correlation.encode()))
    if ticket.subject:
        headers.append(("ce_subject", ticket.subject.encode()))
    if ticket.causation:
        headers.append(("ce_causationid", ticket.causation.encode()))
    if ticket.hops:
        headers.append(("ce_datahops", ticket.hops.encode()))
    if ticket.recorded_ms is not None:
        headers.append(("ce_recordedtime", format_time(ticket.recorded_ms)))
    if ticket.expiry_ms is not None:
        headers.append(("ce_expirytime", format_time(ticket.expiry_ms)))
    if ticket.traceparent is not None:
        headers.append(("traceparent", ticket.traceparent))
    if ticket.tracestate is not None:
        headers.append(("tracestate", ticket.tracestate))
    if key is not None:
        headers.append(("ce_ticketmac", sign(headers, key)))
    elif ticket.mac is not None:
        headers.append(("ce_ticketmac", ticket.mac))
    headers.extend(ticket.rest)
    return headers


def pass_gate(ticket: Ticket, *, hop: Hop, policy: int, recorded_ms: int) -> Ticket:
    """Stamp a ticket at a gate: one more hop, the policy version applied, the recorded time.

    The recorded time is set by the first gate and kept by the later ones; the hop's delta is
    counted from it. The signature is dropped, since the label changed: encode with the key.
    """
    base = ticket.recorded_ms if ticket.recorded_ms is not None else recorded_ms
    return msgspec.structs.replace(
        ticket,
        label=label_with_policy(ticket.label, policy),
        hops=append_hop(ticket.hops, hop._replace(delta_ms=hop.delta_ms - base)),
        recorded_ms=base,
        mac=None,
    )


@lru_cache(maxsize=4_096)
def label_with_policy(label: Label, policy: int) -> Label:
    """The same label under another policy version; the same object when nothing changes."""
    if label.policy == policy:
        return label
    pairs = [pair for pair in label.pairs if pair[0] != "ce_datapolicy"]
    pairs.append(("ce_datapolicy", str(policy).encode()))
    return msgspec.structs.replace(label, policy=policy, pairs=tuple(pairs))


def sign(headers: list[Header], key: bytes) -> bytes:
    """Sign the ticket headers among these: HMAC-SHA-256, its first 12 bytes, base64url.

    What is signed does not depend on the order of headers. Trace headers change at every hop of
    the transport and are left out, as are unknown headers.
    """
    signed = sorted(
        (name, value) for name, value in headers if name in _SIGNED and value is not None
    )
    text = b"".join(
        len(name).to_bytes(2, "big") + name.encode() + len(value).to_bytes(4, "big") + value
        for name, value in signed
    )
    return urlsafe_b64encode(hmac.digest(key, text, "sha256")[:12])


_SIGNED: Final = frozenset(ATTRIBUTES) - {"ce_ticketmac", "traceparent", "tracestate"}


def hash64(data: bytes) -> int:
    """A 64-bit hash that is the same in every process, for identities in state."""
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")
