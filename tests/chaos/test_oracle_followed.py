"""The oracle of what follows, on a small true world and on ones that are wrong in one place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from tests.chaos.oracle import CANARY, Findings
from tests.chaos.oracle_followed import (
    DECISIONS,
    MODEL,
    OUTCOMES,
    FollowedEvidence,
    Word,
    judge_followed,
    word_of,
)
from tests.chaos.test_oracle import told

REQUESTS = "ntf.requests.v1"
ENGAGEMENT = "ntf.engagement.v1"
OPENED = "ntf.engagement.opened.v1"


def word(topic: str, origin: str, **more: Any) -> Word:
    base: dict[str, Any] = {"id": "", "journey": "", "check": 1, "value": b"", "leaks": False}
    return Word(**{"topic": topic, "origin": origin, **base, **more})


def sums(number: int, *, lane: int = 0) -> Word:
    value = msgspec.msgpack.encode({"lane": lane, "number": number})
    return word(MODEL, f"{ENGAGEMENT}/{lane}/{number}/101", value=value)


def evidence() -> FollowedEvidence:
    """A request, its decision told twice, a response and its outcome, three sums."""
    decision = word(DECISIONS, f"{REQUESTS}/0/0/100", id="dec-1", journey="jrn-0")
    return FollowedEvidence(
        told={
            (REQUESTS, 0, 0): told(0, subject="usr_1", event_ms=5),
            (ENGAGEMENT, 0, 7): told(
                7, subject="usr_1", journey="jrn-0", event_type=OPENED, event_ms=9
            ),
            (REQUESTS, 0, 1): told(1, subject=""),
        },
        acts={
            (REQUESTS, 0, 0): "request.created",
            (ENGAGEMENT, 0, 7): "engagement.opened",
            (REQUESTS, 0, 1): "request.created",
        },
        words=[
            decision,
            decision,
            word(OUTCOMES, f"{ENGAGEMENT}/0/7/50", id="out-1"),
            sums(1),
            sums(2),
            sums(1, lane=1),
        ],
        journeys=[("jrn-0", 2, 5, 9, ["request.created", "engagement.opened"], [5, 9])],
        decisions=[("dec-1", "jrn-0")],
    )


def judged(world: FollowedEvidence) -> Findings:
    found = Findings()
    judge_followed(world, found)
    return found


def test_a_true_world_has_no_finding() -> None:
    assert [] == judged(evidence()).sentences


Change = Callable[[FollowedEvidence], FollowedEvidence]


def with_word(extra: Word) -> Change:
    return lambda world: world._replace(words=[*world.words, extra])


def with_journeys(*rows: tuple[Any, ...]) -> Change:
    return lambda world: world._replace(journeys=rows)


def with_decisions(*rows: tuple[str, str]) -> Change:
    return lambda world: world._replace(decisions=rows)


ROW = evidence().journeys[0]


@pytest.mark.parametrize(
    ("change", "kinds"),
    [
        (
            with_word(word(DECISIONS, f"{REQUESTS}/0/0/100", id="dec-1", journey="jrn-0", check=2)),
            "redecided",
        ),
        (
            with_word(word(DECISIONS, f"{REQUESTS}/0/0/100", id="dec-2", journey="jrn-0")),
            "redecided wrong_decisions",
        ),
        (
            with_word(word(DECISIONS, f"{REQUESTS}/0/1/100", id="dec-4", journey="jrn-0")),
            "redecided wrong_decisions",
        ),
        (
            with_word(word(DECISIONS, f"{ENGAGEMENT}/0/7/100", id="dec-3")),
            "unknown wrong_decisions",
        ),
        (with_word(word(DECISIONS, "", id="dec-3")), "unknown wrong_decisions"),
        (with_decisions(), "wrong_decisions"),
        (with_decisions(("dec-1", "jrn-0"), ("dec-1", "jrn-0")), "wrong_decisions"),
        (with_decisions(("dec-1", "jrn-9")), "wrong_decisions"),
        (with_word(word(OUTCOMES, f"{ENGAGEMENT}/0/7/50", id="out-2")), "doubled"),
        (with_word(word(OUTCOMES, f"{ENGAGEMENT}/0/8/50", id="out-1")), "doubled"),
        (with_word(word(OUTCOMES, "", id="out-3")), "unknown"),
        (with_word(sums(2)), "doubled wrong_models"),
        (with_word(sums(4)), "wrong_models"),
        (with_word(sums(2, lane=3)), "wrong_models"),
        (with_journeys(), "wrong_journeys"),
        (with_journeys(ROW, ROW), "wrong_journeys"),
        (with_journeys(("jrn-0", 1, *ROW[2:])), "wrong_journeys"),
        (with_journeys((*ROW[:2], 4, *ROW[3:])), "wrong_journeys"),
        (with_journeys((*ROW[:3], 8, *ROW[4:])), "wrong_journeys"),
        (with_journeys((*ROW[:4], ROW[4][::-1], ROW[5])), "wrong_journeys"),
        (with_journeys((*ROW[:4], ROW[4][::-1], ROW[5][::-1])), "wrong_journeys"),
        (with_word(word(OUTCOMES, f"{ENGAGEMENT}/0/9/50", id="out-4", leaks=True)), "leaked"),
    ],
)
def test_what_is_wrong_in_one_place_is_found(change: Change, kinds: str) -> None:
    found = judged(change(evidence()))

    assert set(kinds.split()) == set(found.counts)


def test_a_record_differs_when_anything_in_it_does() -> None:
    headers: list[tuple[str, bytes | None]] = [("ce_id", b"a"), ("airside-origin", b"t/0/1/2")]
    one = word_of(DECISIONS, b"k", b"v", headers)

    assert ("a", "t/0/1/2") == (one.id, one.origin)
    assert one == word_of(DECISIONS, b"k", b"v", headers[::-1])
    assert one.check != word_of(DECISIONS, b"k", b"w", headers).check
    assert one.check != word_of(DECISIONS, b"l", b"v", headers).check
    assert one.check != word_of(DECISIONS, b"k", b"v", [*headers, ("more", b"")]).check
    assert word_of(DECISIONS, b"k", CANARY.encode(), headers).leaks
    assert not one.leaks
