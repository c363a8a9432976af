"""Tickets: what is read, what is refused, and what is never let through."""

from __future__ import annotations

import itertools
import pickle
from typing import Any

import pytest

from schemas.fates import Refusal
from schemas.header_runs import RUN, TakenHeaders
from schemas.hops import Hop, append_hop, parse_hops
from schemas.ticket import (
    REQUIRED,
    Header,
    Ticket,
    encode_ticket,
    format_time,
    parse_time,
    pass_gate,
)
from schemas.ticket_reader import UNREADABLE, TicketReader
from tests.messages import NOW_MS, policy, ticket_headers

READER = TicketReader(policy())
KEY = b"a key of the test"


def read(headers: list[Header]) -> Ticket:
    found = READER.read(headers)
    assert isinstance(found, Ticket), found
    return found


def refusal(headers: list[Header]) -> tuple[str, str]:
    found = READER.read(headers)
    assert isinstance(found, Refusal)
    return found.code, found.pointer


@pytest.mark.parametrize("name", REQUIRED)
def test_each_required_header_that_is_missing_is_named(name: str) -> None:
    headers = [header for header in ticket_headers() if header[0] != name]

    assert ("T101", f"/{name}") == refusal(headers)


@pytest.mark.parametrize("name", ["subject", "datacategory"])
def test_a_ticket_about_a_person_needs_subject_and_category(name: str) -> None:
    without: dict[str, Any] = {name: None}

    assert ("T101", f"/ce_{name}") == refusal(ticket_headers(**without))
    read(ticket_headers(**without, dataclassification="INTERNAL"))


@pytest.mark.parametrize(
    ("code", "pointer", "changes"),
    [
        ("T102", "/ce_source", {"source": "with space"}),
        ("T102", "/ce_type", {"type": "UPPER"}),
        ("T102", "/ce_subject", {"subject": "someone@example.org"}),
        ("T102", "/ce_correlationid", {"correlationid": "x" * 65}),
        ("T102", "/ce_datacategory", {"datacategory": ",,"}),
        ("T103", "", {"source": "/" + "x" * 120, "tracestate": "", "dataschema": "d" * 600}),
        ("T104", "/ce_id", {"id": "short"}),
        ("T104", "/ce_id", {"id": "with space in it"}),
        ("T105", "/ce_time", {"time": "2026-01-05 10:00:00Z"}),
        ("T105", "/ce_time", {"time": "20260105T100000Z"}),
        ("T105", "/ce_time", {"time": "2026-W01-1T10:00:00Z"}),
        ("T105", "/ce_time", {"time": "2026-01-05T10:00:00"}),
        ("T105", "/ce_time", {"time": "2026-02-30T10:00:00.000Z"}),
        ("T105", "/ce_time", {"time": "1969-12-31T23:59:59.000Z"}),
        ("T105", "/ce_expirytime", {"expirytime": "soon"}),
        ("T105", "/ce_recordedtime", {"recordedtime": "2026-13-01T00:00:00.000Z"}),
        ("T106", "/ce_specversion", {"specversion": "0.3"}),
        ("T201", "/ce_datapurpose", {"datapurpose": "world_domination"}),
        ("T202", "/ce_dataclassification", {"dataclassification": "PII,COSMIC"}),
        ("T204", "/ce_datacategory", {"datacategory": "contact,aura"}),
        ("T205", "/ce_datapolicy", {"datapolicy": "999"}),
        ("T501", "/ce_datahops", {"datahops": "in.c1"}),
        ("T501", "/ce_datahops", {"datahops": "zz.c1.0"}),
        ("T501", "/ce_datahops", {"datahops": "in.c1.5é"}),
        ("T502", "/ce_datahops", {"datahops": ">".join(f"in.c{n}.0" for n in range(60))}),
        ("T502", "/ce_datahops", {"datahops": "in.c1.0>va.e1.2>in.c1.4"}),
    ],
)
def test_what_is_wrong_with_a_ticket_is_named(
    code: str, pointer: str, changes: dict[str, Any]
) -> None:
    headers = ticket_headers(**changes)
    if code == "T103":
        headers = [*headers, ("tracestate", b"t=" + b"x" * 500)]

    assert (code, pointer) == refusal(headers)


def test_content_types_other_than_json_are_refused() -> None:
    headers = [("content-type", b"text/plain"), *ticket_headers()[1:]]

    assert ("T102", "/content-type") == refusal(headers)


def test_a_repeated_header_is_refused_also_in_its_plain_form() -> None:
    assert ("T102", "/ce_id") == refusal([*ticket_headers(), ("ce_id", b"evt-00000002")])
    twice = [*ticket_headers(), ("purpose", b"marketing")]
    assert ("T102", "/ce_datapurpose") == refusal(twice)


def test_headers_without_value_or_readable_name_are_refused() -> None:
    assert ("T102", "") == refusal([*ticket_headers(), ("traceparent", None)])
    assert ("T102", "") == refusal([(UNREADABLE, None)])
    assert ("T101", "/ce_specversion") == refusal([])


def test_headers_taken_apart_as_they_were_read_give_the_same_tickets() -> None:
    each: list[Any] = [ticket_headers(number) for number in range(600)]
    each[3], each[299], each[300] = None, each[7][1:], [*each[8], ("x-note", b"v")]
    taken = TakenHeaders()
    for first in range(0, 600, RUN):
        taken.add_run(each[first : first + RUN])
    reader = TicketReader(policy())
    expected = [reader.read(headers) for headers in each]

    for _ in range(2):  # reading changes nothing of what was taken
        tickets, refusals = reader.read_block(taken)
        assert expected == [refusals.get(at) or tickets[at] for at in range(600)]
    assert each == taken == pickle.loads(pickle.dumps(taken))
    assert type(pickle.loads(pickle.dumps(taken))) is list


def test_very_many_headers_are_refused() -> None:
    many: list[Header] = [(f"x{n}", b"y" * 40) for n in range(500)]

    assert ("T103", "") == refusal([*ticket_headers(), *many])


def test_a_history_may_pass_a_gate_again_after_a_replay() -> None:
    assert "in.c1.0>rp.x.1>in.c1.2" == read(ticket_headers(datahops="in.c1.0>rp.x.1>in.c1.2")).hops


def test_plain_forms_and_unsorted_classes_are_normalised_once() -> None:
    headers: list[Header] = [
        *ticket_headers(datapurpose=None, dataclassification=None),
        ("purpose", b"transactional_notice"),
        ("classification", b"PII, GDPR"),
    ]
    ticket = read(headers)

    assert "transactional_notice" == ticket.label.purpose
    assert ("GDPR", "PII") == ticket.label.classes
    assert ("ce_dataclassification", b"GDPR,PII") in encode_ticket(ticket)


def test_equal_labels_are_one_object() -> None:
    assert read(ticket_headers(1)).label is read(ticket_headers(2)).label


def test_a_signature_is_checked_when_there_is_a_key() -> None:
    reader = TicketReader(policy(), KEY)
    signed = encode_ticket(read(ticket_headers()), KEY)
    assert isinstance(reader.read(signed), Ticket)
    for order in itertools.islice(itertools.permutations(signed), 5):
        assert isinstance(reader.read(list(order)), Ticket)

    unsigned = reader.read(ticket_headers())
    assert isinstance(unsigned, Refusal)
    assert "T503" == unsigned.code
    for name, value in {
        "ce_subject": b"usr_0000000000000000",
        "ce_dataclassification": b"PII",
        "ce_time": format_time(NOW_MS + 1),
        "ce_ticketmac": b"AAAAAAAAAAAAAAAA",
    }.items():
        tampered = reader.read([(n, value if n == name else v) for n, v in signed])
        assert isinstance(tampered, Refusal)
        assert ("T503", "/ce_ticketmac") == tampered[:2]


def test_passing_a_gate_adds_a_hop_and_keeps_what_is_unknown() -> None:
    ticket = read([*ticket_headers(), ("x-note", b"\xff"), ("x-null", None)])
    passed = pass_gate(ticket, hop=Hop("ro", "a1", NOW_MS + 46, ""), policy=1, recorded_ms=NOW_MS)
    headers = encode_ticket(passed)

    assert ("ce_datahops", b"ro.a1.1A") in headers
    assert ("ce_datapolicy", b"1") in headers
    assert ("ce_recordedtime", format_time(NOW_MS)) in headers
    assert [("x-note", b"\xff"), ("x-null", None)] == headers[-2:]
    assert passed.rest == read(headers).rest


def test_a_long_history_keeps_its_first_two_and_last_gates() -> None:
    text = ""
    for number in range(100):
        text = append_hop(text, Hop("va", f"gate-number-{number:03d}", number, ""))

        assert len(text) <= 256
        assert isinstance(parse_hops(text), list)
    parts = text.split(">")
    assert ["va.gate-number-000.0", "va.gate-number-001.1"] == parts[:2]
    assert "va.gate-number-099.2R" == parts[-1]
    assert 100 == len(parts) - 1 + int(parts[2][1:])


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        (b"1970-01-01T00:00:00Z", 0),
        (b"2026-01-05T10:00:00.5Z", 1_767_607_200_500),
        (b"2026-01-05T12:00:00.500+02:00", 1_767_607_200_500),
        (b"2026-01-05t10:00:00.500999z", 1_767_607_200_500),
        (b"2026-01-05T10:00:00.500Z", 1_767_607_200_500),
    ],
)
def test_times_are_read_in_every_form_of_the_standard(text: bytes, ms: int) -> None:
    assert ms == parse_time(text)
