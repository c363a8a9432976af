"""Turn a CloudEvent in structured mode (one JSON object) into a Kafka message in binary mode.

Source: CloudEvents 1.0, JSON event format and Kafka protocol binding; our headers are those of
`schemas.ticket`.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from hmac import compare_digest
from typing import Final, NamedTuple

import msgspec

from schemas.fates import Refusal
from schemas.hops import Hop, append_hop, parse_hops
from schemas.ticket import Header, parse_time, sign

_OWN_NAMES: Final = {
    "datacontenttype": "content-type",
    "traceparent": "traceparent",
    "tracestate": "tracestate",
}
"""Attributes whose header is not their name behind `ce_`."""

_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_text = msgspec.json.Decoder(str).decode
_printable = re.compile(r"[!-~]{1,128}").fullmatch
_whole_number = re.compile(rb"-?[0-9]{1,20}").fullmatch
_is_json = re.compile(rb"[^;]*[/+]json *(;.*)?", re.IGNORECASE).fullmatch


class BinaryEvent(NamedTuple):
    """A Kafka message to be. Shapes: headers in the order of the attributes; `type` may be empty.

    Units: `time_ms` since 1970 UTC; None where the event has no time that can be read.
    """

    type: str
    time_ms: int | None
    key: bytes | None
    headers: list[Header]
    value: bytes | None

    @property
    def size(self) -> int:
        """Bytes that a broker counts at the most, with what the protocol adds."""
        headers = sum(len(name) + len(value or b"") + 12 for name, value in self.headers)
        return 128 + len(self.key or b"") + headers + len(self.value or b"")


def read_event(line: bytes) -> BinaryEvent | str:
    """Give the message of one line, or the reason why it is no event, without quoting it.

    The bytes of `data` become the body as they are. Nothing is checked that ingest checks.
    Errors: none, for any bytes.

    >>> event = read_event(b'{"type": "a.b.v1", "subject": "mira", "data": {"n": 1.50}}')
    >>> event.key, event.headers[0], event.value
    (b'mira', ('ce_type', b'a.b.v1'), b'{"n": 1.50}')
    >>> read_event(b"[]")
    'not a JSON object'
    """
    members = _members(line)
    if isinstance(members, str):
        return members
    headers: list[Header] = []
    for name, raw in members.items():
        if name in ("data", "data_base64"):
            continue
        value = _attribute(bytes(raw))
        if isinstance(value, str):
            return value
        if not _printable(name):
            return "the name of an attribute is not printable ASCII"
        if value is not None:
            headers.append((_OWN_NAMES.get(name, f"ce_{name}"), value))
    return _assemble(headers, members)


def _members(line: bytes) -> dict[str, msgspec.Raw] | str:
    if not line.strip():
        return "blank"
    try:
        line.decode("utf-8")
        return _decode(line)
    except UnicodeDecodeError:
        return "not UTF-8"
    except msgspec.ValidationError:
        return "not a JSON object"
    except msgspec.DecodeError:
        return "not JSON"
    except RecursionError:
        return "nested too deeply"


def _attribute(raw: bytes) -> bytes | str | None:
    """The text of an attribute's value: None when it is not set, a reason when it is wrong."""
    if raw.startswith(b'"'):
        try:
            return _decode_text(raw).encode()
        except (msgspec.DecodeError, UnicodeEncodeError):
            return "the value of an attribute is not text that can be written"
    if raw == b"null":
        return None
    if raw in (b"true", b"false") or _whole_number(raw):
        return raw
    return "the value of an attribute is no text, whole number, true or false"


def _assemble(headers: list[Header], members: dict[str, msgspec.Raw]) -> BinaryEvent | str:
    given = dict(headers)
    content_type = given.get("content-type")
    value: bytes | None = None
    if "data_base64" in members:
        if "data" in members:
            return "both data and data_base64"
        packed = _attribute(bytes(members["data_base64"]))
        try:
            value = b64decode(packed, validate=True) if isinstance(packed, bytes) else None
        except (binascii.Error, ValueError):
            value = None
        if value is None:
            return "data_base64 is not base64"
    elif "data" in members:
        value = bytes(members["data"])
        if content_type is None:  # the JSON format implies it
            headers.append(("content-type", b"application/json"))
        elif value.startswith(b'"') and not _is_json(content_type):
            text = _attribute(value)
            if not isinstance(text, bytes):
                return "data is not text that can be written"
            value = text
    return BinaryEvent(
        type=(given.get("ce_type") or b"").decode(),
        time_ms=parse_time(given.get("ce_time") or b""),
        key=given.get("ce_subject") or given.get("ce_id"),
        headers=headers,
        value=value,
    )


def mark_replayed(event: BinaryEvent, *, node: str, now_ms: int, key: bytes | None) -> BinaryEvent:
    """Add a replay hop to an event that was through gates before; sign it when there is a key.

    A history that cannot be read and a signature that does not match stay as they are: whoever
    reads them shall see that they are wrong.
    """
    given = dict(event.headers)
    mac = given.get("ce_ticketmac")
    signs = key is not None and (mac is None or compare_digest(mac, sign(event.headers, key)))
    hops = (given.get("ce_datahops") or b"").decode()
    if hops and not isinstance(parse_hops(hops), Refusal):
        recorded_ms = parse_time(given.get("ce_recordedtime") or b"")
        delta_ms = now_ms - recorded_ms if recorded_ms is not None else 0
        given["ce_datahops"] = append_hop(hops, Hop("rp", node, delta_ms, "r")).encode()
    if key is not None and signs:
        given["ce_ticketmac"] = sign(list(given.items()), key)
    return event._replace(headers=list(given.items()))
