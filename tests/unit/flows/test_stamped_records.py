"""What the gate publishes by column: headers that do not depend on a message's neighbours."""

from __future__ import annotations

from schemas.records import Records
from schemas.ticket import Header, sign
from tests.messages import Bench, Message, delivered, with_header

KEY = "k" * 20
TRACE = b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01"


def traced(number: int, state: bytes) -> Message:
    return with_header(with_header(delivered(number), "traceparent", TRACE), "tracestate", state)


def first_headers(bench: Bench, *messages: Message) -> list[Header]:
    return bench.pass_(*messages).records[0].headers


def test_an_empty_header_goes_out_whatever_its_neighbours_have() -> None:
    alone = first_headers(Bench(), traced(1, b""))
    beside = first_headers(Bench(), traced(1, b""), traced(2, b"a=b"))

    assert ("tracestate", b"") in alone
    assert alone == beside


def test_foreign_headers_stand_before_those_that_only_a_gate_sets() -> None:
    foreign = with_header(delivered(1), "x-note", b"1")
    signed = with_header(foreign, "ce_ticketmac", sign(foreign.headers, KEY.encode()))

    for bench, message in ((Bench(), foreign), (Bench(ticket_key=KEY), signed)):
        names = [name for name, _ in first_headers(bench, message)]
        assert ["x-note", "airside-origin"] == names[-2:]


def test_a_foreign_header_does_not_move_what_its_neighbours_have() -> None:
    foreign = with_header(delivered(2), "x-note", b"1")

    assert first_headers(Bench(), delivered(1)) == first_headers(Bench(), delivered(1), foreign)


def test_topics_that_no_record_goes_to_are_not_named() -> None:
    misused = with_header(delivered(2), "ce_dataclassification", b"PCI")
    found = Bench().pass_(delivered(1), misused).records

    assert isinstance(found, Records)
    assert found.stamped is not None
    assert [found[0].topic] == found.stamped.topics
