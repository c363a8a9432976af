"""Exceptions as they happen: each once, in event time, whatever the order of arrival."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from random import Random
from typing import Final

import orjson
import pytest

from flows.journey.acts import NAMES, NUMBERS
from flows.journey.book import Book
from flows.journey.follow import JourneyFollower
from flows.journey.make import rules_of
from flows.journey.rules import JourneyRules
from flows.journey.story import Told
from flows.process.judge import Rules
from flows.process.watch import MINUTE_MS, Watch
from flows.steps.accept import accepted_block
from schemas.blocks import AcceptedBlock, Followed
from schemas.process import load_process
from schemas.process_exception import EXCEPTIONS_TOPIC, DetectedException
from schemas.ticket import hash64
from tests.messages import HOUR_MS, NOW_MS, Bench, block, delivered, payment, settings

RULES: Final = Rules(load_process())
START_MS: Final = NOW_MS - NOW_MS % MINUTE_MS
DAY_MS: Final = 24 * HOUR_MS
Happened = tuple[str, int]
"""An act, and when: milliseconds from the start."""


def told(act: str, after_ms: int, journey: str = "jrn-1") -> Told:
    empty = dict.fromkeys(Told._fields, "")
    numbers = dict.fromkeys(
        ("place", "sensitivity", "propensity", "hops", "expires_day", "amount_minor"), 0
    )
    named = {
        **empty,
        **numbers,
        "journey": journey,
        "at_ms": START_MS + after_ms,
        "event": hash64(f"{journey} {act} {after_ms}".encode()),
        "act": NUMBERS[act],
        "held_out": False,
        "refund": False,
    }
    return Told(**named)  # type: ignore[arg-type] # every field by its name


class Lane:
    """A book and its watch, as the follower has them."""

    def __init__(self) -> None:
        self.rules: JourneyRules = rules_of(settings())
        self.book = Book(self.rules)
        self.watch = Watch(RULES, forget_ms=self.rules.forget_ms)
        self.found: list[tuple[str, str, int]] = []

    def take(self, events: Iterable[Told], *, until_ms: int) -> list[str]:
        """The rules that are told of once the watermark is so far."""
        by_journey: dict[str, list[Told]] = {}
        for one in events:
            by_journey.setdefault(one.journey, []).append(one)
        watermark_ms = START_MS + until_ms
        _, new = self.book.fold(by_journey, watermark_ms)
        self.watch.note(new)
        found = self.watch.pass_time(watermark_ms, self.book.story_of)
        _, ended = self.book.pass_time(watermark_ms)
        found += self.watch.end(ended)
        self.found += [
            (one.journey, one.finding.rule, one.finding.at_ms - START_MS) for one in found
        ]
        return [one.finding.rule for one in found]


WAY: Final[Sequence[Happened]] = (
    ("request.created", 0),
    ("request.accepted", 100),
    ("journey.created", 200),
    ("orchestration.preference_checked", 300),
    ("orchestration.channel_selected", 400),
    ("orchestration.rendered", 500),
    ("orchestration.scheduled", 600),
    ("delivery.queued", 700),
    ("delivery.attempted", 800),
    ("delivery.sent", 900),
    ("delivery.delivered", 1_000),
)


def way(*left_out: str) -> list[Told]:
    return [told(act, after_ms) for act, after_ms in WAY if act not in left_out]


def test_a_journey_that_keeps_to_the_process_is_not_told_of() -> None:
    lane = Lane()

    assert [] == lane.take(way(), until_ms=DAY_MS)
    assert [] == lane.take([], until_ms=30 * DAY_MS)


def test_a_forbidden_relation_is_told_once_its_minute_has_passed_and_only_once() -> None:
    lane = Lane()
    events = [*way("delivery.attempted"), told("delivery.queued", 2_000)]

    assert [] == lane.take(events, until_ms=MINUTE_MS - 1)
    assert [
        "forbidden:delivery.queued>delivery.sent",
        "forbidden:delivery.delivered>delivery.queued",
    ] == lane.take([], until_ms=MINUTE_MS)
    again = [told("delivery.sent", 62_000), told("delivery.delivered", 63_000)]
    assert [] == lane.take(again, until_ms=3 * MINUTE_MS)


def test_a_late_event_tells_what_it_makes_wrong_and_takes_nothing_back() -> None:
    lane = Lane()
    assert ["forbidden:delivery.queued>delivery.sent"] == lane.take(
        way("delivery.attempted"), until_ms=MINUTE_MS
    )

    late = [told("delivery.attempted", 800), told("outcome.refunded", 850)]

    assert [
        "forbidden:delivery.attempted>outcome.refunded",
        "forbidden:outcome.refunded>delivery.sent",
        "missing:delivery.delivered",
    ] == sorted(lane.take(late, until_ms=2 * MINUTE_MS))


def test_a_deadline_passes_in_event_time_and_not_before() -> None:
    lane = Lane()
    events = [told(act, after_ms) for act, after_ms in WAY[:7]]
    due_ms = 600 + 15 * MINUTE_MS

    assert [] == lane.take(events, until_ms=due_ms)
    assert ["overdue:orchestration.scheduled"] == lane.take([], until_ms=16 * MINUTE_MS)
    assert [("jrn-1", "overdue:orchestration.scheduled", due_ms)] == lane.found
    assert [] == lane.take([told("delivery.queued", 17 * MINUTE_MS)], until_ms=21 * MINUTE_MS)


def test_an_act_at_the_deadline_keeps_it() -> None:
    lane = Lane()
    events = [told(act, after_ms) for act, after_ms in WAY[:7]]
    events.append(told("orchestration.canceled", 600 + 15 * MINUTE_MS))

    assert [] == lane.take(events, until_ms=DAY_MS)


def test_a_step_that_is_missing_is_told_at_the_end_or_when_silence_ends_the_journey() -> None:
    lane = Lane()
    lane.take([*way("request.accepted"), told("outcome.registered", 2_000)], until_ms=DAY_MS)
    assert ("jrn-1", "missing:request.accepted", 2_000) in lane.found

    silent = Lane()
    silent.take([told("request.created", 0)], until_ms=DAY_MS)
    silent.take([], until_ms=4 * DAY_MS)
    assert {
        ("jrn-1", "missing:request.accepted", 3 * DAY_MS),
        ("jrn-1", "missing:orchestration.preference_checked", 3 * DAY_MS),
    } <= set(silent.found)


def stories(seed: int) -> list[Told]:
    """Journeys of acts drawn at random, over a few hours."""
    rng = Random(seed)
    return [
        told(rng.choice(NAMES[:44]), rng.randrange(6 * HOUR_MS), f"jrn-{number}")
        for number in range(20)
        for _ in range(rng.randrange(1, 12))
    ]


@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_arrival_and_kills_change_nothing_that_is_told(seed: int) -> None:
    """As long as no event comes behind the watermark."""
    events = stories(seed)
    at_once = Lane()
    at_once.take(events, until_ms=DAY_MS)
    rng = Random(seed)
    lane = Lane()
    rest = sorted(events, key=lambda one: one.at_ms + rng.randrange(HOUR_MS))
    while rest:
        size = rng.randrange(1, 30)
        now, rest = rest[:size], rest[size:]
        least_ms = min((one.at_ms for one in rest), default=START_MS + DAY_MS)
        lane.take(now, until_ms=least_ms - START_MS)
        saved = lane.watch.dump()
        lane.watch = Watch(RULES, forget_ms=lane.rules.forget_ms)
        lane.watch.load(saved)

    assert len(at_once.found) > 50
    assert sorted(at_once.found) == sorted(lane.found)


def accepted(numbers: Iterable[int], *, watermark_ms: int, first: int) -> AcceptedBlock:
    bench = Bench()
    events = [delivered(number, at_ms=START_MS) for number in numbers]
    checked = bench.checker.check(block(events, first=first))
    return accepted_block(checked, range(len(events)), watermark_ms=watermark_ms, zones={})


def exceptions(followed: Followed) -> list[DetectedException]:
    return [
        DetectedException.model_validate_json(record.value or b"")
        for record in followed.records
        if record.topic == EXCEPTIONS_TOPIC
    ]


def test_exceptions_are_published_and_kept_once_with_origins_of_their_own() -> None:
    follower = JourneyFollower(rules_of(settings()), RULES)
    follower.follow(accepted([1, 2], watermark_ms=START_MS, first=0))
    saved = follower.dump()
    later = accepted([3], watermark_ms=START_MS + MINUTE_MS, first=2)

    followed = follower.follow(later)

    assert [
        ("forbidden:>delivery.delivered", f"jrn-{number:012d}") for number in (1, 2, 3)
    ] == sorted((one.rule, one.journey_id) for one in exceptions(followed))
    told_of = [record for record in followed.records if record.topic == EXCEPTIONS_TOPIC]
    assert 3 == len({record.origin for record in told_of})
    assert {("ntf.delivery.v1", 0, 2)} == {record.origin[:3] for record in told_of}
    [rows] = [part for part in followed.rows if part.table == "process_exceptions"]
    ids = [f"exc-{one.exception_id}".encode() for one in exceptions(followed)]
    assert ids == [dict(record.headers)["ce_id"] for record in told_of]
    assert [START_MS] * 3 == rows.columns["at"]
    again = JourneyFollower(rules_of(settings()), RULES)
    again.load(saved)
    assert followed == again.follow(later)
    assert orjson.loads(told_of[0].value or b"")["process"] == "notification"


def test_card_data_stay_out_of_the_topic_and_in_the_table() -> None:
    follower = JourneyFollower(rules_of(settings()), RULES)
    bench = Bench()
    event = payment(1, at_ms=START_MS, dataclassification="PCI")
    checked = bench.checker.check(block([event]))

    followed = follower.follow(
        accepted_block(checked, [0], watermark_ms=START_MS + MINUTE_MS, zones={})
    )

    assert [] == exceptions(followed)
    [rows] = [part for part in followed.rows if part.table == "process_exceptions"]
    assert "forbidden:>outcome.payment_received" in rows.columns["rule"]
