"""One line in structured mode becomes one message in binary mode, or a reason without a value."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.places import POLICY
from flows.structured_event import BinaryEvent, mark_replayed, read_event
from schemas.policy import load_policy
from schemas.ticket import Header, Ticket, sign
from schemas.ticket_reader import TicketReader

KEY = b"an invented key"
ATTRIBUTES = {
    "specversion": "1.0",
    "id": "harbour-00000001",
    "source": "/logs/harbour",
    "type": "ntf.request.created.v1",
    "time": "2026-07-04T08:00:00.137Z",
    "datacontenttype": "application/json",
    "datapurpose": "transactional_notice",
    "dataclassification": "GDPR,PII",
    "datacategory": "behaviour",
    "subject": "usr_9f2c1b7ae04d3c58",
    "correlationid": "harbour-00000001-jrn",
}


def read(**members: Any) -> BinaryEvent:
    event = read_event(orjson.dumps({**ATTRIBUTES, "data": {"n": 1}, **members}))
    assert isinstance(event, BinaryEvent)
    return event


def test_each_attribute_becomes_a_header_and_the_data_the_body() -> None:
    event = read()

    expected: list[Header] = [
        ("content-type" if name == "datacontenttype" else f"ce_{name}", value.encode())
        for name, value in ATTRIBUTES.items()
    ]
    assert expected == event.headers
    assert b'{"n":1}' == event.value
    assert b"usr_9f2c1b7ae04d3c58" == event.key
    assert ("ntf.request.created.v1", 1_783_152_000_137) == (event.type, event.time_ms)


def test_extensions_are_kept_whatever_their_type() -> None:
    given = dict(read(actor="usr_1", retries=-3, urgent=True, note=None, name="Zoë").headers)

    assert (b"usr_1", b"-3", b"true") == (
        given["ce_actor"],
        given["ce_retries"],
        given["ce_urgent"],
    )
    assert "Zoë".encode() == given["ce_name"]
    assert "ce_note" not in given


def test_the_trace_keeps_its_own_header_names() -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

    assert {"traceparent": trace.encode(), "tracestate": b"a=1"}.items() <= dict(
        read(traceparent=trace, tracestate="a=1").headers
    ).items()


def test_an_event_without_a_subject_has_its_id_as_key() -> None:
    assert b"harbour-00000001" == read(subject=None).key
    assert None is read(subject=None, id=None).key


def test_the_bytes_of_the_data_are_not_touched() -> None:
    odd = (
        b'{ "big": 123456789012345678901234567890, "exact": 1.50, "a": 1, "a": 2, "u": "\\u00e9" }'
    )
    event = read_event(b'{"type": "t", "data": ' + odd + b"}")

    assert isinstance(event, BinaryEvent)
    assert odd == event.value
    assert ("content-type", b"application/json") in event.headers


def test_data_in_base64_becomes_any_bytes() -> None:
    line = orjson.dumps({**ATTRIBUTES, "data_base64": b64encode(b"\xff\x00").decode()})
    event = read_event(line)

    assert isinstance(event, BinaryEvent)
    assert b"\xff\x00" == event.value


def test_an_event_without_data_has_no_body() -> None:
    event = read_event(orjson.dumps(ATTRIBUTES))

    assert isinstance(event, BinaryEvent)
    assert None is event.value


@pytest.mark.parametrize(
    ("content_type", "body"),
    [("text/plain", b"hello"), ("application/json", b'"hello"'), ("a/b+json; x=y", b'"hello"')],
)
def test_text_data_is_json_only_where_the_type_says_so(content_type: str, body: bytes) -> None:
    assert body == read(datacontenttype=content_type, data="hello").value


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"  ", "blank"),
        (b'{"type": "\xff"}', "not UTF-8"),
        (b'{"type": "t"', "not JSON"),
        (b'{"type": "t"} {}', "not JSON"),
        (b'{"type": "\\ud800"}', "not JSON"),
        (b'["t"]', "not a JSON object"),
        (b'{"data":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
        (b'{"a": 1.5}', "the value of an attribute is no text, whole number, true or false"),
        (b'{"a": {"b": 1}}', "the value of an attribute is no text, whole number, true or false"),
        (b'{"a\\u0000b": "1"}', "the name of an attribute is not printable ASCII"),
        (b'{"data": 1, "data_base64": "MQ=="}', "both data and data_base64"),
        (b'{"data_base64": "M?Q=="}', "data_base64 is not base64"),
        (b'{"data_base64": 7}', "data_base64 is not base64"),
        (b'{"data_base64": null}', "data_base64 is not base64"),
    ],
)
def test_a_line_that_is_no_event_gives_its_reason(line: bytes, reason: str) -> None:
    assert reason == read_event(line)


@given(st.binary(max_size=200))
def test_no_bytes_raise(line: bytes) -> None:
    assert isinstance(read_event(line), BinaryEvent | str)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
NAMES = st.sampled_from([*ATTRIBUTES, "data", "data_base64"]) | st.text(max_size=5)


@given(st.dictionaries(NAMES, JSON, max_size=8))
def test_no_json_object_raises_and_headers_are_always_bytes(members: dict[str, Any]) -> None:
    event = read_event(json.dumps(members).encode())

    if isinstance(event, BinaryEvent):
        marked = mark_replayed(event, node="replay", now_ms=0, key=KEY)
        assert all(isinstance(value, bytes) for _, value in marked.headers)


def marked(event: BinaryEvent, key: bytes | None = None) -> dict[str, bytes | None]:
    return dict(mark_replayed(event, node="replay", now_ms=1_783_152_000_237, key=key).headers)


def test_an_event_that_was_through_gates_gets_a_replay_hop() -> None:
    event = read(datahops="in.a1.0>ro.a1.5", recordedtime="2026-07-04T08:00:00.137Z")

    assert b"in.a1.0>ro.a1.5>rp.replay.2Sr" == marked(event)["ce_datahops"]


def test_an_event_at_its_origin_gets_no_hop() -> None:
    assert "ce_datahops" not in marked(read())


def test_a_history_that_cannot_be_read_stays_as_it_is() -> None:
    assert b"in.a1.0>?" == marked(read(datahops="in.a1.0>?"))["ce_datahops"]


def test_a_key_signs_what_is_not_signed_or_signed_right() -> None:
    reader = TicketReader(load_policy(POLICY), KEY)
    plain = read(datahops="ro.a1.5")
    signed = plain._replace(headers=[*plain.headers, ("ce_ticketmac", sign(plain.headers, KEY))])

    for event in (plain, signed):
        assert isinstance(reader.read(list(marked(event, KEY).items())), Ticket)


def test_a_signature_that_does_not_match_is_not_made_good() -> None:
    forged = read(ticketmac="AAAAAAAAAAAAAAAA", datahops="ro.a1.5")

    assert b"AAAAAAAAAAAAAAAA" == marked(forged, KEY)["ce_ticketmac"]
    assert b"AAAAAAAAAAAAAAAA" == marked(forged)["ce_ticketmac"]
