"""The checking step: what is wrong with a message by itself, whoever its neighbours are."""

from __future__ import annotations

import base64
import sys
from collections.abc import Callable
from typing import Any

import pytest

from schemas.blocks import CheckedBlock
from schemas.events import EVENT_TYPES
from schemas.events.nesting import NESTING_MAX
from schemas.fates import Refusal
from schemas.ticket import Header, encode_ticket, format_time
from tests.messages import (
    HOUR_MS,
    NOW_MS,
    PERSON,
    Bench,
    Message,
    block,
    delivered,
    payment,
    profile,
    with_body,
    with_header,
)

SKEW_MS = 300_000


def refusal_of(message: Message, **settings: Any) -> Refusal | None:
    return Bench(**settings).check(message).refusals.get(0)


def place_of(message: Message, **settings: Any) -> tuple[str, str]:
    found = refusal_of(message, **settings)
    return ("", "") if found is None else (found.code, found.pointer)


def at(ms: int) -> bytes:
    return format_time(ms)


def with_unknown(message: Message, inside: bytes) -> Message:
    return message._replace(value=(message.value or b"")[:-1] + b',"unknown":' + inside + b"}")


def test_a_body_may_have_exactly_the_allowed_bytes() -> None:
    message = delivered()
    size = len(message.value or b"")

    assert ("", "") == place_of(message, body_bytes_max=size)
    assert ("T103", "") == place_of(message, body_bytes_max=size - 1)


def test_a_large_body_is_refused_before_it_is_decoded() -> None:
    message = delivered()._replace(value=b"[" * 200)

    assert ("T103", "") == place_of(message, body_bytes_max=199)


@pytest.mark.parametrize(
    ("time_ms", "recorded_ms", "received_ms", "code"),
    [
        (NOW_MS + SKEW_MS, NOW_MS, NOW_MS, ""),
        (NOW_MS + SKEW_MS + 1, NOW_MS, NOW_MS, "T105"),
        # A producer that sets the record's time into the future cannot vouch for itself.
        (NOW_MS + SKEW_MS + 1, NOW_MS + HOUR_MS, NOW_MS, "T105"),
        # Nor can a late reader: what lay in the future when it was recorded stays wrong.
        (NOW_MS + SKEW_MS + 1, NOW_MS, NOW_MS + HOUR_MS, "T105"),
        (NOW_MS + SKEW_MS, NOW_MS, NOW_MS + HOUR_MS, ""),
        (NOW_MS - 9_000 * HOUR_MS, NOW_MS, NOW_MS, ""),
        (NOW_MS, -1, NOW_MS, "T105"),
    ],
)
def test_a_time_is_held_against_the_smaller_clock(
    time_ms: int, recorded_ms: int, received_ms: int, code: str
) -> None:
    bench = Bench()
    raw = block([delivered(at_ms=time_ms)._replace(recorded_ms=recorded_ms)])
    raw.received_ms = received_ms

    found = bench.checker.check(raw).refusals.get(0, Refusal("", "", ""))

    assert (code, "/ce_time" if code else "") == found[:2]


def test_a_recorded_time_in_the_future_is_refused_at_its_own_place() -> None:
    base = delivered()
    limit = with_header(base, "ce_recordedtime", at(NOW_MS + SKEW_MS))
    beyond = with_header(base, "ce_recordedtime", at(NOW_MS + SKEW_MS + 1))

    assert ("", "") == place_of(limit)
    assert ("T105", "/ce_recordedtime") == place_of(beyond)


def test_an_event_expires_at_its_time_not_after_it() -> None:
    base = delivered()

    assert ("T405", "/ce_expirytime") == place_of(with_header(base, "ce_expirytime", at(NOW_MS)))
    assert ("", "") == place_of(with_header(base, "ce_expirytime", at(NOW_MS + 1)))


def test_the_key_is_the_subject_and_the_event_id_where_there_is_none() -> None:
    """A free key would be a place for a person's address on an open topic."""
    nobody = delivered(dataclassification="PUBLIC", datacategory=None, subject=None)

    assert ("", "") == place_of(nobody)
    assert ("T107", "") == place_of(nobody._replace(key=b"mira@mail.example"))
    assert ("T107", "") == place_of(nobody._replace(key=PERSON.encode()))
    assert ("T107", "") == place_of(nobody._replace(key=b""))
    assert ("T107", "") == place_of(delivered()._replace(key=b"evt-000000000001"))
    assert ("T107", "") == place_of(nobody._replace(key=None))
    assert ("T107", "") == place_of(delivered()._replace(key=b""))
    assert ("T107", "") == place_of(delivered()._replace(key=PERSON.encode() + b" "))


@pytest.mark.parametrize(
    ("classes", "purpose", "code"),
    [
        ("PCI", "marketing", "T203"),
        ("PHI", "payment", "T203"),
        ("SECRET", "security", "T203"),
        ("PUBLIC,SECRET", "security", "T203"),
        ("PHI,PCI", "payment", "T203"),
        ("PCI", "fraud", ""),
        ("SPECIAL", "rights_request", ""),
    ],
)
def test_the_policy_decides_by_class_and_purpose(classes: str, purpose: str, code: str) -> None:
    message = delivered(dataclassification=classes, datapurpose=purpose)

    assert (code, "/ce_dataclassification" if code else "") == place_of(message)


def test_a_class_that_needs_a_basis_is_refused_for_a_purpose_without_one() -> None:
    bench = Bench()
    raw = bench.policy.model_dump(by_alias=True)
    raw["purposes"]["security"]["basis"] = "none"
    decide = type(bench.policy).model_validate(raw).decide

    assert "T404" == decide(frozenset({"GDPR", "PII"}), "security").code
    assert "" == decide(frozenset({"PII"}), "security").code


def test_an_event_type_belongs_to_its_topics_both_ways() -> None:
    assert ("T301", "/ce_type") == place_of(delivered(type="ntf.outcome.payment_received.v1"))
    assert ("T301", "/ce_type") == place_of(payment(type="ntf.delivery.delivered.v1"))
    assert ("T301", "/ce_type") == place_of(delivered(type="ntf.profile.updated.v1"))
    assert ("T301", "/ce_type") == place_of(profile()._replace(topic="ntf.delivery.v1"))
    assert ("T301", "/ce_type") == place_of(delivered(type="ntf.delivery.delivered.v2"))
    assert ("", "") == place_of(payment())


def test_one_label_is_judged_anew_on_another_topic() -> None:
    """Verdicts are remembered by label: the topic must be part of what is remembered."""
    bench = Bench()
    good = delivered()

    assert {} == bench.check(good).refusals
    assert "T301" == bench.check(good._replace(topic="ntf.requests.v1")).refusals[0].code
    assert {} == bench.check(good).refusals


def test_the_body_names_the_journey_and_the_person_of_its_ticket() -> None:
    base = delivered()

    assert ("T302", "/journey_id") == place_of(with_body(base, journey_id="jrn-of-another"))
    assert ("T302", "/subject") == place_of(with_body(base, subject="usr_of_somebody_else"))
    assert ("", "") == place_of(with_body(base, subject=PERSON))
    assert ("", "") == place_of(with_body(base, subject=None))
    nobody = delivered(dataclassification="PUBLIC", datacategory=None, subject=None)
    assert ("T302", "/subject") == place_of(with_body(nobody, subject=PERSON))
    assert ("T302", "/subject") == place_of(with_body(profile(), subject="usr_of_somebody_else"))


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b" ",
        b"null ",
        b"\xef\xbb\xbf{}",
        b"{",
        b"{}{}",
        b"\xff",
        "{}".encode("utf-16"),
        b"[" * 100_000,
        b'{"a":' * 100_000,
    ],
)
def test_what_is_no_json_object_in_utf_8_is_refused(value: bytes | None) -> None:
    code, pointer = place_of(delivered()._replace(value=value))

    assert ("T302" if value == b"null " else "T303", "") == (code, pointer)


@pytest.mark.parametrize(
    ("inside", "code"),
    [
        (b'"\xff"', "T303"),
        (b'{"\xc3\x28":1}', "T303"),
        (b'"\xed\xa0\x80"', "T303"),  # a surrogate, which UTF-8 forbids
        ("\N{GRINNING FACE}".join('""').encode(), ""),
        (b"[" * 100_000 + b"]" * 100_000, "T303"),
        (b'{"a":' * 50_000 + b"1" + b"}" * 50_000, "T303"),
        (b"[" * 50 + b"]" * 50, ""),
        (b"1e999999", ""),
    ],
)
def test_a_field_that_nobody_knows_is_looked_at_too(inside: bytes, code: str) -> None:
    assert (code, "") == place_of(with_unknown(delivered(), inside))


def nested(depth: int, brackets: tuple[bytes, bytes]) -> bytes:
    """Levels of arrays or objects; the body around them is one more."""
    first, last = brackets
    return first * depth + b"1" + last * depth


BRACKETS = [(b"[", b"]"), (b'{"a":', b"}"), (b'[1,{"a":', b"}]")]


@pytest.mark.parametrize("brackets", BRACKETS)
def test_every_depth_has_the_same_verdict_on_every_interpreter(
    brackets: tuple[bytes, bytes],
) -> None:
    """Interpreters give up at about 1,000 or 1,500 levels, and not at the same one every time."""
    levels = brackets[0].count(b"[") + brackets[0].count(b"{")
    depths = range(1, 3_001 // levels)
    stream = [with_unknown(delivered(n), nested(n, brackets)) for n in depths]
    found = Bench().check(*stream)

    deepest = (NESTING_MAX - 1) // levels
    assert {n - 1 for n in depths if n > deepest} == set(found.refusals)
    assert {("T303", "", f"expected at most {NESTING_MAX} levels of nesting")} == {
        (why.code, why.pointer, why.reason) for why in found.refusals.values()
    }


@pytest.mark.parametrize("depth", [1, 255, 256, 257, 900, 1_460, 1_490, 1_520, 3_000, 500_000])
def test_what_is_never_closed_is_refused_at_every_depth(depth: int) -> None:
    assert ("T303", "") == place_of(with_unknown(delivered(), b"[" * depth))


@pytest.mark.parametrize(
    "inside",
    [
        b'"' + b"[{" * 1_000 + b'"',
        rb'"\\","y":"' + rb"\"[[[" * 300 + b'"',
        b"[" + b"[],{}," * 2_000 + b"[]]",
    ],
)
def test_brackets_in_strings_and_beside_each_other_are_no_depth(inside: bytes) -> None:
    assert ("", "") == place_of(with_unknown(delivered(), inside))


def test_a_text_that_ends_within_a_string_or_escape_is_looked_at_once() -> None:
    """Each of its quotes could open a string that never ends: a naive search takes hours."""
    value = b"[" * 300 + b'"' + rb"\"" * 400_000 + b"\\"

    assert ("T303", "") == place_of(delivered()._replace(value=value))


def test_a_body_that_decodes_the_second_time_only_is_refused_all_the_same() -> None:
    """The judge is asked again to explain; by then there may be more room on the stack."""
    bench = Bench()
    kind = EVENT_TYPES["ntf.delivery.delivered.v1"]
    asked: list[bytes] = []

    def decode(body: bytes) -> Any:
        asked.append(body)
        if len(asked) == 1:
            raise RecursionError
        return kind.decode(body)

    bench.checker._event_types = {kind.name: kind._replace(decode=decode)}
    found = bench.check(delivered(1), delivered(2))

    assert 3 == len(asked)
    assert {0: ("T303", "")} == {at: (why.code, why.pointer) for at, why in found.refusals.items()}


def test_half_a_surrogate_pair_in_an_escape_is_refused() -> None:
    body = (delivered().value or b"").replace(b"spring", rb"\ud83d")

    assert ("T303", "") == place_of(delivered()._replace(value=body))


def test_a_tombstone_needs_no_ticket_but_only_a_compacted_topic_has_any() -> None:
    tombstone = profile()._replace(value=None)

    assert ("T606", "") == place_of(tombstone)
    assert ("T606", "") == place_of(tombstone._replace(headers=[]))
    assert ("T606", "") == place_of(tombstone._replace(key=None))
    assert ("T303", "") == place_of(profile()._replace(value=b""))
    assert ("T303", "") == place_of(delivered()._replace(value=None))
    assert "T101" == place_of(delivered()._replace(value=None, headers=[]))[0]


def test_the_ticket_is_looked_at_before_the_body() -> None:
    """Order of checks: ticket, type and policy, key, times, expiry, body."""
    worst = delivered(at_ms=NOW_MS + HOUR_MS, dataclassification="SECRET", type="no.such.type")
    worst = with_header(worst, "ce_expirytime", at(1))._replace(key=None, value=None)
    steps = [
        ("T301", "ce_type", b"ntf.delivery.delivered.v1"),
        ("T203", "ce_dataclassification", b"GDPR,PII"),
    ]
    for code, name, right in steps:
        assert code == place_of(worst)[0]
        worst = with_header(worst, name, right)

    assert "T107" == place_of(worst)[0]
    worst = worst._replace(key=PERSON.encode())
    assert "T105" == place_of(worst)[0]
    worst = with_header(worst, "ce_time", at(NOW_MS))
    assert "T405" == place_of(worst)[0]
    worst = with_header(worst, "ce_expirytime", at(NOW_MS + 1))
    assert "T303" == place_of(worst)[0]


def test_a_bad_body_does_not_touch_its_neighbours() -> None:
    bad = [b"{", b"", b"\xff", b"[" * 100_000, b"7", b'{"journey_id":1}']
    stream: list[Message] = []
    for number, value in enumerate(bad):
        stream += [delivered(2 * number), delivered(2 * number + 1)._replace(value=value)]

    block_ = Bench().check(*stream)

    assert set(range(1, len(stream), 2)) == set(block_.refusals)
    journeys = [body.journey_id for body in block_.bodies if body is not None]
    assert [f"jrn-{2 * n:012d}" for n in range(len(bad))] == journeys
    assert [None] * len(bad) == block_.bodies[1::2]


def test_a_refused_message_keeps_the_ticket_that_could_be_read() -> None:
    checked: CheckedBlock = Bench().check(
        delivered(1)._replace(value=b"{"), delivered(2, datapurpose="gossip"), delivered(3)
    )

    assert [True, False, True] == [ticket is not None for ticket in checked.tickets]
    assert {1: "evt-000000000002"} == {at: told["id"] for at, told in checked.glances.items()}


def test_with_a_key_only_signed_tickets_pass() -> None:
    bench = Bench(ticket_key="anchor of sixteen")
    ticket = Bench().check(delivered()).tickets[0]
    assert ticket is not None
    signed = delivered()._replace(headers=encode_ticket(ticket, b"anchor of sixteen"))

    assert "T503" == bench.check(delivered()).refusals[0].code
    assert {} == bench.check(signed).refusals
    raised = with_header(signed, "ce_datapurpose", b"security")
    assert "T503" == bench.check(raised).refusals[0].code
    elsewhere = base64.urlsafe_b64encode(bytes(12))
    assert "T503" == bench.check(with_header(signed, "ce_ticketmac", elsewhere)).refusals[0].code


def test_many_labels_and_layouts_are_forgotten_not_kept() -> None:
    bench = Bench()
    stream = [delivered(n, source=f"/sender/{n}") for n in range(5_000)]
    checked = bench.check(*stream)

    assert {} == checked.refusals
    assert len(bench.checker._verdicts) <= 4_096
    assert [f"/sender/{n}" for n in (0, 4_999)] == [
        ticket.label.source for ticket in (checked.tickets[0], checked.tickets[-1]) if ticket
    ]


@pytest.mark.parametrize(
    "names",
    [lambda n: [f"{n:06d}" + "x" * 100_000], lambda n: [f"{n}-{i}" for i in range(5_000)]],
    ids=["long names", "many names"],
)
def test_header_names_are_not_kept_however_long_or_many_they_are(
    names: Callable[[int], list[str]],
) -> None:
    """Every message may bring other ones, up to the size of a message."""
    bench = Bench()
    for number in range(1, 41):
        message = delivered(number)
        more: list[Header] = [(name, b"") for name in names(number)]
        refusals = bench.check(message._replace(headers=[*message.headers, *more])).refusals
        assert "T103" == refusals[0].code
    kept = [name for layout in bench.checker._reader._layouts for name in layout]

    assert sum(map(len, kept)) < 4_096
    assert {} == bench.check(delivered(99)).refusals
    assert 1 == len(bench.checker._reader._layouts)


def test_the_stack_is_as_deep_after_a_bomb_as_before() -> None:
    before = sys.getrecursionlimit()
    refusal_of(delivered()._replace(value=b"[" * 1_000_000))

    assert before == sys.getrecursionlimit()
    assert refusal_of(delivered()) is None


@pytest.mark.parametrize("zone", ["Foo/Bar", "America", "leapseconds", "europe/berlin"])
def test_a_zone_that_does_not_exist_is_refused_with_the_profile(zone: str) -> None:
    assert ("T302", "/zone") == place_of(profile(zone=zone))
