"""What leaves: routed records as they came, refused ones sealed, and nothing in clear."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any, Final

import orjson
import pytest

from flows.steps.publish import LATE_TOPIC, SEALED_BYTES_MAX
from flows.steps.seal import Sealer
from schemas.blocks import Outputs, OutRecord
from schemas.codes import CODES, Door
from schemas.errors import ConfigError, PermanentError
from schemas.ticket import Header, Ticket, format_time
from schemas.ticket_reader import TicketReader
from tests.messages import (
    CANARY,
    HOUR_MS,
    KEY,
    NOW_MS,
    SOILED,
    Bench,
    Message,
    block,
    delivered,
    full,
    policy,
    profile,
    rows_of,
    soiled_all_over,
    with_body,
    with_header,
)


def notice_of(record: OutRecord) -> dict[str, Any]:
    told: dict[str, Any] = orjson.loads(record.value or b"")
    return told


def headers_of(record: OutRecord) -> dict[str, bytes | None]:
    assert len(record.headers) == len(dict(record.headers))
    return dict(record.headers)


def routed(bench: Bench, message: Message) -> OutRecord:
    outputs = bench.pass_(message)
    assert 1 == outputs.counts[Door.ROUTED, ""]
    [record] = outputs.records
    return record


# Accepted messages


@pytest.mark.parametrize(
    "value",
    [
        (delivered().value or b"").replace(b",", b" ,\n\t").replace(b"spring", rb"\u0061"),
        (delivered().value or b"")[:-1] + b',"campaign":"twice"}',
    ],
)
def test_a_body_leaves_byte_for_byte(value: bytes) -> None:
    record = routed(Bench(), delivered()._replace(value=value))

    assert (value, delivered().key) == (record.value, record.key)


def test_unknown_headers_leave_verbatim_and_in_order_even_repeated() -> None:
    extra: list[Header] = [("X-Note", b"\xff\x00"), ("x-null", None), ("X-Note", b"2"), ("", b"")]
    message = delivered()._replace(headers=[*extra, *delivered().headers])

    kept = [header for header in routed(Bench(), message).headers if header in extra]

    assert extra == kept


def test_a_ticket_leaves_with_its_values_and_the_gates_marks() -> None:
    message = delivered(
        7,
        causationid="evt-unknown-1",
        dataregulation="gdpr",
        dataschema="/schemas/1",
        expirytime=format_time(NOW_MS + 1).decode(),
        datahops="in.c1.0>va.e1.2",
        datapolicy="1",
        dataclassification="pii ,GDPR".upper(),
    )
    came = dict(message.headers)

    left = headers_of(routed(Bench(), message))

    changed = {"ce_dataclassification", "ce_datahops"}
    assert {n: v for n, v in came.items() if n not in changed}.items() <= left.items()
    assert b"GDPR,PII" == left["ce_dataclassification"]
    assert b"in.c1.0>va.e1.2>ro.a1.0" == left["ce_datahops"]
    assert {"ce_recordedtime", "airside-origin"} == left.keys() - came.keys()


def test_the_next_gate_can_read_what_this_one_wrote() -> None:
    reader = TicketReader(policy())
    before = reader.read(delivered().headers)
    after = reader.read(routed(Bench(), delivered()).headers)

    assert isinstance(before, Ticket)
    assert isinstance(after, Ticket)
    assert (before.id, before.time_ms, before.label.classes) == (
        after.id,
        after.time_ms,
        after.label.classes,
    )


def test_the_hop_counts_from_the_time_it_was_first_recorded() -> None:
    bench = Bench()
    raw = block([delivered(1)._replace(recorded_ms=NOW_MS - 205), delivered(2), delivered(3)])
    second = delivered(2, recordedtime=format_time(NOW_MS - 46).decode(), datahops="in.a1.0")
    third = delivered(3, recordedtime=format_time(NOW_MS + 9).decode())
    raw.headers = [raw.headers[0], second.headers, third.headers]

    records = bench.gate.pass_block(bench.checker.check(raw)).records

    assert [b"ro.a1.5P", b"in.a1.0>ro.a1.1A", b"ro.a1.0"] == [
        headers_of(record)["ce_datahops"] for record in records
    ]
    assert [format_time(NOW_MS + ms) for ms in (-205, -46, 9)] == [
        headers_of(record)["ce_recordedtime"] for record in records
    ]


def test_the_short_forms_leave_in_full() -> None:
    short = [
        ({"ce_datapurpose": "purpose", "ce_dataclassification": "classification"}.get(n, n), v)
        for n, v in delivered().headers
    ]
    left = headers_of(routed(Bench(), delivered()._replace(headers=short)))

    assert {"purpose", "classification"}.isdisjoint(left)
    assert (b"transactional_notice", b"GDPR,PII") == (
        left["ce_datapurpose"],
        left["ce_dataclassification"],
    )


def test_a_gate_with_a_key_signs_anew_and_one_without_leaves_no_old_signature() -> None:
    unsigned = routed(Bench(), with_header(delivered(), "ce_ticketmac", b"AAAAAAAAAAAAAAAA"))
    assert "ce_ticketmac" not in headers_of(unsigned)

    bench = Bench(ticket_key="anchor of sixteen")
    # Reader without a key, gate with one: the first gate of a chain.
    checked = Bench().checker.check(block([delivered()]))
    [record] = bench.gate.pass_block(checked).records

    assert isinstance(
        TicketReader(policy(), b"anchor of sixteen").read(record.headers[:-1]), Ticket
    )


@pytest.mark.parametrize(
    ("classes", "purpose", "told"),
    [
        ("PUBLIC", "transactional_notice", 0),
        ("INTERNAL", "transactional_notice", 0),
        ("CONFIDENTIAL", "transactional_notice", 0),
        ("PSEUDO", "transactional_notice", 0),
        ("PII", "transactional_notice", 1),
        ("GDPR", "transactional_notice", 1),
        ("PHI", "transactional_notice", 1),
        ("PCI", "payment", 1),
        ("PUBLIC,PII", "transactional_notice", 1),
    ],
)
def test_the_zone_is_told_from_the_rank_of_a_person_up(
    classes: str, purpose: str, told: int
) -> None:
    bench = Bench()
    bench.pass_(profile(zone="Asia/Tokyo"))
    record = routed(bench, delivered(1, dataclassification=classes, datapurpose=purpose))

    assert (b"Asia/Tokyo" if told else None) == headers_of(record).get("ce_subjectzone")


def test_a_person_without_a_profile_has_no_zone_header() -> None:
    assert "ce_subjectzone" not in headers_of(routed(Bench(), delivered()))


@pytest.mark.parametrize("name", ["airside-origin", "ce_subjectzone"])
def test_a_producer_cannot_write_the_gates_own_headers(name: str) -> None:
    message = delivered(1, dataclassification="PUBLIC")
    outputs = Bench().pass_(with_header(message, name, b"ntf.delivery.v1/9/9/0"))
    found = [v for record in outputs.records for n, v in record.headers if n == name]

    assert b"ntf.delivery.v1/9/9/0" not in found


# Refused messages


def test_a_sealed_message_is_whole_and_opens_at_its_own_origin_only() -> None:
    message = delivered()._replace(
        headers=[*delivered().headers, ("x-raw", b"\xff"), ("x-null", None)], key=None
    )
    bench = Bench()
    one, other = bench.pass_(message, message).records
    sealer = Sealer(KEY)

    opened = orjson.loads(sealer.open(notice_of(one)["sealed"], about=notice_of(one)["origin"]))

    assert None is opened["key"]
    assert message.value == base64.b64decode(opened["value"])
    assert message.headers == [
        (n, None if v is None else base64.b64decode(v)) for n, v in opened["headers"]
    ]
    with pytest.raises(PermanentError):
        sealer.open(notice_of(one)["sealed"], about=notice_of(other)["origin"])
    with pytest.raises(PermanentError):
        sealer.open(notice_of(one)["sealed"], about="")


def test_every_bit_of_a_sealed_text_matters() -> None:
    sealer = Sealer(KEY)
    raw = bytearray(base64.b64decode(sealer.seal(b"body", about="t/0/1/0") or ""))
    for place in range(len(raw)):
        changed = bytearray(raw)
        changed[place] ^= 1
        with pytest.raises(PermanentError):
            sealer.open(base64.b64encode(changed).decode(), about="t/0/1/0")


@pytest.mark.parametrize("key", ["", "%%%", "AAAA", base64.b64encode(bytes(33)).decode()])
def test_a_key_of_another_size_or_form_is_refused_without_being_shown(key: str) -> None:
    with pytest.raises(ConfigError, match="AIRSIDE_QUARANTINE_KEY") as caught:
        Sealer(key)

    assert not key or key not in str(caught.value)


def test_a_sealer_without_a_key_keeps_and_opens_nothing() -> None:
    sealed = Sealer(KEY).seal(b"body", about="t/0/1/0") or ""

    assert Sealer(None).seal(b"body", about="t/0/1/0") is None
    with pytest.raises(PermanentError):
        Sealer(None).open(sealed, about="t/0/1/0")


def test_a_notice_has_the_same_id_and_origin_whenever_it_is_built() -> None:
    broken = delivered()._replace(value=b"{")
    one, other = Bench().pass_(broken).records[0], Bench().pass_(broken).records[0]

    assert (one.headers, one.key, one.origin) == (other.headers, other.key, other.origin)
    assert isinstance(TicketReader(policy()).read(one.headers), Ticket)


def test_the_dropped_door_publishes_nothing_and_the_late_one_elsewhere() -> None:
    bench = Bench()
    bench.pass_(delivered(1))
    dropped = bench.pass_(delivered(1))
    late = bench.pass_(delivered(2, at_ms=NOW_MS - 30 * HOUR_MS))

    assert [] == dropped.records
    assert ["T602"] == [row["code"] for row in rows_of(dropped, "quarantine")]
    assert [LATE_TOPIC] == [record.topic for record in late.records]
    assert notice_of(late.records[0])["sealed"] is not None


@pytest.mark.parametrize("spare", [0, 1])
def test_a_message_is_sealed_up_to_its_size_and_told_about_above(spare: int) -> None:
    bench = Bench()
    [small] = bench.pass_(delivered()._replace(value=b"")).records
    frame = len(Sealer(KEY).open(notice_of(small)["sealed"], about=notice_of(small)["origin"]))
    room = (SEALED_BYTES_MAX - frame) // 4 * 3
    [record] = Bench().pass_(delivered()._replace(value=b"x" * (room + spare))).records

    assert (spare == 1) == (notice_of(record)["sealed"] is None)
    assert "T103" == notice_of(record)["code"]


FAULTS: Final[dict[str, Callable[[Message], Message]]] = {
    "T107": lambda m: m._replace(key=b"somebody"),
    "T102": lambda m: with_header(m, "ce_correlationid", b"two words"),
    "T303": lambda m: m._replace(value=SOILED),
    "T302": lambda m: with_body(m, channel="pigeon"),
    "T105": lambda m: with_header(m, "ce_time", b"yesterday"),
    "T501": lambda m: with_header(m, "ce_datahops", b"??"),
    "T601": lambda m: with_header(m, "ce_time", format_time(NOW_MS - 30 * HOUR_MS)),
}


@pytest.mark.parametrize("classes", ["PCI", "SECRET", "PCI,PUBLIC", "pci", "PCI,NOPE", "GDPR, PCI"])
@pytest.mark.parametrize("fault", FAULTS)
def test_card_data_and_secrets_are_kept_by_no_refusal(fault: str, classes: str) -> None:
    bench = Bench()
    bench.pass_(delivered(99))
    message = delivered(1, dataclassification=classes, datapurpose="payment")
    outputs = bench.pass_(FAULTS[fault](message))

    assert [None] == [notice_of(record)["sealed"] for record in outputs.records]


@pytest.mark.parametrize("name", ["ce_dataclassification", "classification"])
@pytest.mark.parametrize("last", [b"PII", b"", None])
def test_card_data_is_not_kept_when_a_second_classification_denies_it(
    name: str, last: bytes | None
) -> None:
    headers: list[Header] = [(name, b"PCI")]
    headers += [h for h in delivered().headers if h[0] != "ce_dataclassification"]
    headers.append(("ce_dataclassification", last))
    [record] = Bench().pass_(delivered()._replace(headers=headers)).records

    assert notice_of(record)["sealed"] is None


# Canaries


TOLD: Final = {"ce_id", "ce_source", "ce_type"}
"""What names a message to its producer is told in clear, in its form; nothing else is."""


def shown(outputs: Outputs) -> str:
    return repr(outputs.records) + repr(outputs.rows) + repr(outputs.counts)


HEADERS: Final = [name for name, _ in full().headers]


@pytest.mark.parametrize("wrong", [SOILED, b"<" + SOILED + b">", SOILED + b"\xff"])
@pytest.mark.parametrize("name", [n for n in HEADERS if n not in TOLD])
def test_a_header_of_a_refused_message_is_never_shown(name: str, wrong: bytes) -> None:
    outputs = Bench().pass_(with_header(full(), name, wrong)._replace(value=b"{"))

    assert 0 == outputs.counts[Door.ROUTED, ""]
    assert CANARY not in shown(outputs)


@pytest.mark.parametrize("name", sorted(TOLD))
def test_a_name_that_has_not_its_form_is_not_shown_either(name: str) -> None:
    outputs = Bench().pass_(with_header(full(), name, b"<" + SOILED + b"> \xff"))

    assert 0 == outputs.counts[Door.ROUTED, ""]
    assert CANARY not in shown(outputs)


def test_a_header_that_nobody_knows_is_shown_neither_by_name_nor_by_value() -> None:
    soiled = with_header(with_header(full(), CANARY, b"1"), "x-note", SOILED)

    assert CANARY not in shown(Bench().pass_(soiled._replace(value=b"{")))


BODIES: Final[list[bytes]] = [
    SOILED,
    b'"%b"' % SOILED,
    b'{"%b":1}' % SOILED,
    b'{"journey_id":"%b","notification_id":"n"}' % SOILED,
    *(
        with_body(delivered(), **{name: value}).value or b""
        for name in ("journey_id", "notification_id", "campaign", "tenant", "channel", "subject")
        for value in (CANARY * 20, [CANARY], {CANARY: CANARY}, [[{CANARY: 1}]])
    ),
    with_body(delivered(), channel="x", unknown={CANARY: CANARY * 2_000}).value or b"",
    with_body(delivered(), attempt=CANARY, message_id=7, arm={"": CANARY}).value or b"",
]


@pytest.mark.parametrize("value", BODIES)
def test_a_refused_body_is_never_shown(value: bytes) -> None:
    outputs = Bench().pass_(full()._replace(value=value))

    assert 0 == outputs.counts[Door.ROUTED, ""]
    assert CANARY not in shown(outputs)


@pytest.mark.parametrize("consent", [{CANARY: "yes"}, {CANARY.upper(): True}, [CANARY], CANARY])
def test_a_refused_profile_is_never_shown(consent: object) -> None:
    outputs = Bench().pass_(with_body(profile(), consent=consent, locale=CANARY))

    assert 0 == outputs.counts[Door.ROUTED, ""]
    assert CANARY not in shown(outputs)


@pytest.mark.parametrize("key", [SOILED, SOILED + b"\xff"])
def test_a_wrong_key_is_never_shown(key: bytes) -> None:
    assert CANARY not in shown(Bench().pass_(full()._replace(key=key)))
    assert CANARY not in shown(Bench().pass_(profile()._replace(key=key, value=None)))


def refusals() -> dict[str, Message]:
    """The soiled message, refused at each place where the gate or the check can refuse it."""
    base = soiled_all_over()
    return {
        "T101": with_header(base, "ce_time", b"")._replace(headers=base.headers[1:]),
        "T103": with_body(base, more="x" * 1_048_576),
        "T105": with_header(base, "ce_time", format_time(NOW_MS + HOUR_MS)),
        "T107": base._replace(key=b"1"),
        "T201": with_header(base, "ce_datapurpose", b"gossip"),
        "T203": with_header(base, "ce_dataclassification", b"PHI,PCI"),
        "T206": with_header(
            with_header(base, "ce_causationid", b"evt-000000000099"), "ce_datapurpose", b"security"
        ),
        "T301": with_header(base, "ce_type", b"ntf.delivery.lost.v1"),
        "T302": with_body(base, channel="pigeon"),
        "T404": with_header(base, "ce_datapurpose", b"marketing"),
        "T405": with_header(base, "ce_expirytime", format_time(1)),
        "T502": with_header(base, "ce_datahops", b"ro.a1.0"),
        "T601": with_header(base, "ce_time", format_time(NOW_MS - 30 * HOUR_MS)),
        "T602": soiled_all_over(98),
        "T603": with_body(soiled_all_over(98), campaign=CANARY * 2),
    }


@pytest.mark.parametrize("code", refusals())
def test_whatever_the_reason_a_refused_message_is_not_shown(code: str) -> None:
    bench = Bench()
    bench.pass_(delivered(99), soiled_all_over(98))

    outputs = bench.pass_(refusals()[code])

    assert {(CODES[code].door, code): 1, (Door.ROUTED, ""): 0} == outputs.counts
    assert CANARY not in shown(outputs)
