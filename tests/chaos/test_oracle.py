"""The oracle on a small true world, and each of its checks on one that is wrong in one place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.chaos.oracle import (
    BUCKETS,
    CANARY,
    Copy,
    Evidence,
    Refusal,
    Told,
    carries_canary,
    checksum,
    code_of,
    judge,
    origin_of,
    told_by,
)

REQUESTS = "ntf.requests.v1"
OPEN = "ntf.routed.open.v1"
RESTRICTED = "ntf.routed.restricted.v1"
QUARANTINE = "ntf.quarantine.v1"
MINUTE_MS = 60_000


def told(number: int, **more: Any) -> Told:
    base: dict[str, Any] = {
        "event_id": f"evt-{number}",
        "event_type": "ntf.request.created.v1",
        "source": "/shop",
        "event_ms": 5 * MINUTE_MS,
        "recorded_ms": 5 * MINUTE_MS + 3,
        "purpose": "order_update",
        "classes": "PUBLIC",
        "subject": "",
        "journey": f"jrn-{number}",
        "cause": "",
        "notification": "",
        "campaign": "harbour",
        "tenant": "harbour",
        "channel": "email",
        "arm": "a",
        "reason": "",
        "amount_minor": 7,
        "currency": "EUR",
    }
    return Told(**{**base, **more})


def routed(offset: int, *, at: int, topic: str = OPEN, leaks: bool = False) -> Copy:
    return Copy(topic, 0, at, (REQUESTS, 0, offset), offset, "", leaks)


def evidence() -> Evidence:
    """Offsets 0 to 2 routed, 3 quarantined, 4 dropped."""
    histogram = [0, 0, 3] + [0] * (BUCKETS - 3)
    return Evidence(
        inputs={(REQUESTS, 0, offset): offset for offset in range(5)},
        ends={(REQUESTS, 0): 5, (REQUESTS, 1): 0},
        told={(REQUESTS, 0, offset): told(offset) for offset in range(3)},
        copies=[
            *(routed(offset, at=2 * offset) for offset in range(3)),
            Copy(QUARANTINE, 0, 0, (REQUESTS, 0, 3), 0, "T303", leaks=False),
        ],
        refused=[
            Refusal((REQUESTS, 0, 3), "quarantined", "T303"),
            Refusal((REQUESTS, 0, 4), "dropped", "T602"),
        ],
        facts=[((REQUESTS, 0, offset), told(offset)) for offset in range(3)],
        cells=[
            (
                5,
                "ntf.request.created.v1",
                "harbour",
                "email",
                "PUBLIC",
                "EUR",
                "a",
                3,
                21,
                histogram,
            )
        ],
        fates=[
            (REQUESTS, 0, 0, "routed", "", 3),
            (REQUESTS, 0, 0, "quarantined", "T303", 1),
            (REQUESTS, 0, 0, "dropped", "T602", 1),
        ],
        leaking_rows={"facts": 0},
    )


def test_a_true_world_has_no_finding() -> None:
    found = judge(evidence())

    assert {} == dict(found.counts)
    assert [] == found.sentences


Change = Callable[[Evidence], Evidence]


def _without_copy(at: int) -> Change:
    return lambda world: world._replace(
        copies=[copy for place, copy in enumerate(world.copies) if place != at]
    )


def _with_copy(copy: Copy) -> Change:
    return lambda world: world._replace(copies=[*world.copies, copy])


def _with_cell(**more: Any) -> Change:
    def change(world: Evidence) -> Evidence:
        cell = list(world.cells[0])
        for place, value in more.items():
            cell[int(place.removeprefix("part"))] = value
        return world._replace(cells=[tuple(cell)])

    return change


def _swapped(world: Evidence) -> Evidence:
    first, second, *rest = world.copies
    swapped = [first._replace(offset=second.offset), second._replace(offset=first.offset)]
    return world._replace(copies=[*swapped, *rest])


WRONG: dict[str, tuple[Change, set[str]]] = {
    "a dropped record": (
        _without_copy(1),
        {"lost", "wrong_fates"},
    ),
    "a dropped notice": (_without_copy(3), {"lost", "wrong_refused", "wrong_fates"}),
    "a dropped message in no table": (
        lambda world: world._replace(refused=world.refused[:1]),
        {"lost", "wrong_fates"},
    ),
    "a record twice": (_with_copy(routed(1, at=9)), {"doubled", "misordered"}),
    "a record twice at the end": (_with_copy(routed(2, at=9)), {"doubled"}),
    "two doors": (
        _with_copy(Copy(QUARANTINE, 0, 1, (REQUESTS, 0, 1), 0, "T303", leaks=False)),
        {"doubled", "misordered"},
    ),
    "an origin never sent": (_with_copy(routed(77, at=9)), {"unknown"}),
    "no origin": (_with_copy(Copy(OPEN, 0, 9, None, 0, "", leaks=False)), {"unknown"}),
    "a changed body": (
        lambda world: world._replace(
            copies=[world.copies[0]._replace(check=99), *world.copies[1:]]
        ),
        {"changed"},
    ),
    "two records swapped": (_swapped, {"misordered"}),
    "a cell too large": (_with_cell(part6=4), {"wrong_cells"}),
    "another amount": (_with_cell(part7=0), {"wrong_cells"}),
    "another histogram": (_with_cell(part8=[3] + [0] * (BUCKETS - 1)), {"wrong_cells"}),
    "another minute": (_with_cell(part0=6), {"wrong_cells"}),
    "a cell twice": (
        lambda world: world._replace(cells=[*world.cells, *world.cells]),
        {"wrong_cells"},
    ),
    "no cell": (lambda world: world._replace(cells=[]), {"wrong_cells"}),
    "a fact twice": (
        lambda world: world._replace(facts=[*world.facts, world.facts[0]]),
        {"wrong_facts"},
    ),
    "a fact lost": (lambda world: world._replace(facts=world.facts[1:]), {"wrong_facts"}),
    "a fact about nothing": (
        lambda world: world._replace(facts=[*world.facts, ((REQUESTS, 0, 4), told(4))]),
        {"wrong_facts"},
    ),
    "a fact that differs": (
        lambda world: world._replace(
            facts=[((REQUESTS, 0, 0), told(0, amount_minor=8)), *world.facts[1:]]
        ),
        {"wrong_facts"},
    ),
    "books that do not add up": (
        lambda world: world._replace(fates=[*world.fates, world.fates[0]]),
        {"wrong_fates"},
    ),
    "another code in the table": (
        lambda world: world._replace(
            refused=[world.refused[0]._replace(code="T302"), world.refused[1]]
        ),
        {"wrong_refused"},
    ),
    "a refused row twice": (
        lambda world: world._replace(refused=[world.refused[0], *world.refused]),
        {"wrong_refused"},
    ),
    "a leak in the open topic": (
        lambda world: world._replace(
            copies=[world.copies[0]._replace(leaks=True), *world.copies[1:]]
        ),
        {"leaked"},
    ),
    "a leak in a notice": (
        lambda world: world._replace(
            copies=[*world.copies[:3], world.copies[3]._replace(leaks=True)]
        ),
        {"leaked"},
    ),
    "a leak in a table": (
        lambda world: world._replace(leaking_rows={"facts": 2}),
        {"leaked"},
    ),
    "a leak in the log": (lambda world: world._replace(leaking_log_lines=1), {"leaked"}),
}


@pytest.mark.parametrize("name", WRONG)
def test_each_wrong_is_found_and_named(name: str) -> None:
    change, kinds = WRONG[name]
    found = judge(change(evidence()))

    assert kinds == set(found.counts)
    assert all(count > 0 for count in found.counts.values())
    assert kinds == {sentence.partition(":")[0] for sentence in found.sentences}


def test_a_planted_value_may_be_in_the_restricted_topic() -> None:
    world = evidence()
    copies = [world.copies[0]._replace(topic=RESTRICTED, leaks=True), *world.copies[1:]]

    assert {} == dict(judge(world._replace(copies=copies)).counts)


def test_order_holds_for_each_pair_of_partitions_alone() -> None:
    """Two input partitions share an output partition: they may mix, and each keeps its order."""
    world = evidence()
    other = Copy(OPEN, 0, 1, (REQUESTS, 1, 50), 50, "", leaks=False)
    kinds = judge(world._replace(copies=[*world.copies, other])).counts

    assert {"unknown": 1} == dict(kinds)


def test_words_never_hold_a_value_of_a_message() -> None:
    world = evidence()
    secret = told(0, campaign="secret-campaign", subject="usr_secret")
    wrong = world._replace(facts=[((REQUESTS, 0, 0), secret), *world.facts[1:]])

    assert "secret" not in " ".join(judge(wrong).sentences)


def test_a_record_is_read_in_each_form_that_is_right() -> None:
    plain = [
        ("ce_id", b"evt-1"),
        ("ce_type", b"ntf.request.created.v1"),
        ("ce_source", b"/shop"),
        ("ce_time", b"1970-01-01T01:00:00.250999+01:00"),
        ("purpose", b"order_update"),
        ("classification", b"PII , GDPR"),
        ("ce_correlationid", b"jrn-1"),
    ]
    found = told_by(plain, b'{"campaign":"harbour","amount_minor":null}', 9)

    assert (250, "GDPR,PII", "order_update") == (found.event_ms, found.classes, found.purpose)
    assert ("harbour", 0, "") == (found.campaign, found.amount_minor, found.channel)


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        (b"ntf.requests.v1/3/120/0", (REQUESTS, 3, 120)),
        (b"ntf.requests.v1/3", None),
        (b"ntf.requests.v1/x/120/0", None),
        (b"", None),
    ],
)
def test_an_origin_is_read_or_is_none(origin: bytes, expected: Any) -> None:
    assert expected == origin_of([("other", b"1"), ("airside-origin", origin)])
    assert None is origin_of([])


@pytest.mark.parametrize(
    ("value", "code"), [(b'{"code":"T303"}', "T303"), (b"{}", "missing"), (None, "missing")]
)
def test_a_notice_tells_its_code(value: bytes | None, code: str) -> None:
    assert code == code_of(value)


def test_a_planted_value_is_seen_wherever_it_is() -> None:
    word = f"x{CANARY}1".encode()

    assert carries_canary(word, None, [])
    assert carries_canary(None, word, [])
    assert carries_canary(None, None, [("a", word)])
    assert not carries_canary(b"a", b"b", [("canary-", b"c"), ("d", None)])
    assert checksum(b"ab", b"c") == checksum(b"a", b"bc") != checksum(b"a", b"c")
