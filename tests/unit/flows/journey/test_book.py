"""A lane's book of journeys: time-outs, forgetting, bounds, saved states, all in event time."""

from __future__ import annotations

from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.journey.acts import ACTS, NUMBERS, STAGES, number_of
from flows.journey.book import Book, Ended
from flows.journey.follow import JourneyFollower
from flows.journey.make import process_of
from flows.journey.rules import JourneyRules
from flows.journey.story import Story, Told, fold, row_of
from flows.journey.touches import DIRECT, FIRST, LAST, LINEAR, People, Result, Touch
from schemas.blocks import Rows
from schemas.errors import PermanentError
from schemas.events import EVENT_TYPES
from tests.journeys_run import Table
from tests.unit.flows.memory_run import make_settings

NOW_MS = 1_800_000_000_000
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
RULES = JourneyRules(
    timeout_ms=3 * DAY_MS,
    forget_ms=8 * DAY_MS,
    tombstone_ms=30 * DAY_MS,
    lateness_ms=DAY_MS,
    journeys_max=1_000,
    moments_max=64,
    window_ms=7 * DAY_MS,
    touches_max=64,
    outcomes_max=64,
)


def told(
    act: str, at_ms: int = NOW_MS, *, event: int = 0, journey: str = "jny-1", **more: Any
) -> Told:
    given: dict[str, Any] = {
        "channel": "",
        "subject": "usr_1",
        "notification": "ntf-1",
        "campaign": "spring",
        "tenant": "harbour",
        "arm": "",
        "purpose": "marketing",
        "classes": "PII",
        "sensitivity": 3,
        "propensity": 0.0,
        "held_out": False,
        "hops": 1,
        "expires_day": 21_000,
        "amount_minor": 0,
        "currency": "",
        "refund": False,
        **more,
    }
    number = NUMBERS[act]
    return Told(0, journey, at_ms, event or hash((act, at_ms)) % 2**60, number, **given)


def take(book: Book, *events: Told, watermark_ms: int = NOW_MS) -> dict[str, dict[str, Any]]:
    """The rows that some events lead to, by journey, with those of time passing."""
    by_journey: dict[str, list[Told]] = {}
    for event in events:
        by_journey.setdefault(event.journey, []).append(event)
    changed, _ = book.fold(by_journey, watermark_ms)
    late, _ = book.pass_time(watermark_ms)
    return {row["journey"]: row for part in (changed, late) for row in lines(part)}


def lines(rows: Rows) -> list[dict[str, Any]]:
    return [
        dict(zip(rows.columns, values, strict=True))
        for values in zip(*rows.columns.values(), strict=True)
    ]


def test_every_event_type_of_a_journey_is_an_act_of_its_stage() -> None:
    class Body:
        machine = False

    for kind in EVENT_TYPES.values():
        act = number_of(kind.name, Body)
        if kind.stage in ("profile", "decision"):
            assert act is None
            continue
        assert act is not None
        word = {"request": "creation", "orchestration": "orchestration", "delivery": "delivery"}
        assert word.get(kind.stage, "analysis") == STAGES[act]
    assert 64 >= len(ACTS)


def test_a_late_step_does_not_move_a_journey_back() -> None:
    book = Book(RULES)
    first = take(book, told("delivery.delivered", NOW_MS))["jny-1"]
    late = take(book, told("delivery.sent", NOW_MS - HOUR_MS))["jny-1"]

    assert ("delivery", 38) == (first["stage"], first["rank"]) == (late["stage"], late["rank"])
    assert ["delivery.sent", "delivery.delivered"] == late["acts"]
    assert NOW_MS - HOUR_MS == late["started_at"]


events_of_one = st.lists(
    st.tuples(
        st.sampled_from([act.name for act in ACTS]),
        st.integers(0, 5),
        st.integers(1, 40),
        st.sampled_from(["", "EUR", "JPY"]),
        st.sampled_from(["", "email", "push"]),
    ),
    min_size=1,
    max_size=30,
    unique_by=lambda one: one[2],
)


@given(events_of_one, st.randoms(use_true_random=False))
@settings(max_examples=150, deadline=None)
def test_the_row_is_a_function_of_the_set_of_events(
    happened: list[tuple[str, int, int, str, str]], rng: Random
) -> None:
    events = [
        told(act, NOW_MS + at, event=event, currency=currency, amount_minor=event, channel=channel)
        for act, at, event, currency, channel in happened
    ]
    one, other = Story(), Story()
    fold(one, events, moments_max=64)
    rng.shuffle(events)
    for event in [*events, *events[:5]]:
        fold(other, [event], moments_max=64)

    assert row_of("jny-1", one) == row_of("jny-1", other)
    assert len(events) == other.n


def test_silence_times_a_journey_out_and_a_late_event_opens_it_again() -> None:
    book = Book(RULES)
    take(book, told("delivery.delivered", NOW_MS))
    assert {} == take(book, watermark_ms=NOW_MS + 3 * DAY_MS - 1)
    ended = take(book, watermark_ms=NOW_MS + 3 * DAY_MS)["jny-1"]
    again = take(
        book, told("engagement.seen", NOW_MS + 3 * DAY_MS), watermark_ms=NOW_MS + 3 * DAY_MS
    )["jny-1"]

    assert ("timed_out", 3) == (ended["state"], ended["ver"])
    assert ("open", 4) == (again["state"], again["ver"])
    assert "timed_out" == take(book, watermark_ms=NOW_MS + 6 * DAY_MS)["jny-1"]["state"]


def test_what_has_an_end_does_not_time_out() -> None:
    book = Book(RULES)
    for number, act in enumerate(
        [
            "outcome.payment_received",
            "orchestration.suppressed",
            "request.rejected",
            "delivery.bounced",
        ]
    ):
        take(book, told(act, journey=f"jny-{number}"))

    assert {} == take(book, watermark_ms=NOW_MS + 7 * DAY_MS)
    assert 4 == len(book)


def test_a_forgotten_journey_is_not_reset_by_what_comes_later() -> None:
    book, table = Book(RULES), Table("journey")
    table.insert(book.fold({"jny-1": [told("delivery.delivered")]}, NOW_MS)[0])
    book.pass_time(NOW_MS + 8 * DAY_MS)
    assert 0 == len(book)
    later = NOW_MS + 9 * DAY_MS
    more = [told("engagement.opened", later + n, event=n + 1) for n in range(9)]
    rows, new = book.fold({"jny-1": more}, later)
    table.insert(rows)

    assert (0, 9, 9) == (rows.size, len(new), book.ignored)
    assert 1 == table.rows["jny-1",]["n"]
    other = Book(RULES)
    other.load(book.dump())
    assert 0 == other.fold({"jny-1": more}, later)[0].size


def test_a_tombstone_goes_after_its_time() -> None:
    book = Book(RULES)
    take(book, told("delivery.delivered"))
    book.pass_time(NOW_MS + 8 * DAY_MS)
    assert 1 == len(book._forgotten)
    book.pass_time(NOW_MS + 38 * DAY_MS + 60_000)

    assert 0 == len(book._forgotten)


def test_the_bound_of_journeys_holds_and_the_longest_silent_go() -> None:
    book = Book(msgspec.structs.replace(RULES, journeys_max=128))
    for number in range(500):
        take(book, told("request.created", NOW_MS + number, journey=f"jny-{number}"))
        assert len(book) <= 128

    assert "jny-499" in book._stories
    assert "jny-0" not in book._stories


def test_the_bound_of_acts_holds_and_all_events_are_counted() -> None:
    story = Story()
    fold(
        story,
        [told("delivery.attempted", NOW_MS + n, event=n + 1) for n in range(99)],
        moments_max=64,
    )
    row = row_of("jny-1", story)

    assert 99 == story.n
    assert 64 == len(row[16])
    assert NOW_MS + 98 == story.last_ms


@given(st.integers(0, 2**32), st.integers(1, 19))
@settings(max_examples=40, deadline=None)
def test_a_lane_that_was_saved_anywhere_goes_on_as_if_it_had_not_been(seed: int, at: int) -> None:
    rng = Random(seed)
    names = [act.name for act in ACTS]
    blocks = [
        [
            told(
                rng.choice(names),
                NOW_MS + rng.randrange(20) * DAY_MS,
                journey=f"jny-{rng.randrange(6)}",
            )
            for _ in range(rng.randrange(4))
        ]
        for _ in range(20)
    ]
    steady, resumed = Book(RULES), Book(RULES)
    for place, block in enumerate(blocks):
        if place == at:
            dumped = resumed.dump()
            resumed = Book(RULES)
            resumed.load(dumped)
        watermark_ms = NOW_MS + place * DAY_MS
        assert take(steady, *block, watermark_ms=watermark_ms) == take(
            resumed, *block, watermark_ms=watermark_ms
        )


@pytest.mark.parametrize("state", [b"", b"\xc1", msgspec.msgpack.encode({"version": 9})])
def test_a_state_of_another_version_is_refused_in_words(state: bytes) -> None:
    with pytest.raises(
        PermanentError, match=r"could not resume journeys: found .*expected version 1 or 2"
    ):
        JourneyFollower(RULES, process_of(make_settings())).load(state)


def test_a_time_out_tells_its_journey() -> None:
    book = Book(RULES)
    book.fold({"jny-1": [told("delivery.delivered")]}, NOW_MS)
    _, [ended] = book.pass_time(NOW_MS + 4 * DAY_MS)

    assert isinstance(ended, Ended)
    assert ("jny-1", 3 * DAY_MS) == (ended.journey, ended.patience_ms)


def result(at_ms: int, event: int) -> Result:
    return Result(
        at_ms,
        event,
        "payment_received",
        "jny-9",
        "ntf-9",
        "spring",
        "",
        "",
        "payment",
        "PII",
        3,
        500,
        "EUR",
        21_000,
    )


@given(st.integers(0, 2**32))
@settings(max_examples=80, deadline=None)
def test_late_touches_lead_to_the_shares_that_all_touches_lead_to(seed: int) -> None:
    rng = Random(seed)
    touches = [
        Touch(
            NOW_MS + rng.randrange(12) * DAY_MS, n + 1, f"jny-{rng.randrange(4)}", "spring", "ntf"
        )
        for n in range(8)
    ]
    results = [result(NOW_MS + rng.randrange(12) * DAY_MS + 5, 100 + n) for n in range(3)]
    people, table = People(RULES), {}
    mixed: list[Any] = [*touches, *results]
    rng.shuffle(mixed)
    for one in mixed:
        parts = ([one], []) if isinstance(one, Touch) else ([], [one])
        for changed, shares, count in people.take("usr_1", *parts, NOW_MS):
            for share in shares:
                table[changed.event, share.model, share.slot] = (count, share)

    for one in results:
        near = sorted(t for t in touches if one.at_ms - 7 * DAY_MS <= t.at_ms <= one.at_ms)
        for model in (LAST, FIRST, LINEAR):
            rows = [
                v for (event, name, _), v in table.items() if (event, name) == (one.event, model)
            ]
            assert pytest.approx(1.0) == sum(share.weight for _, share in rows)
            assert {len(near)} == {count for count, _ in rows}
        last = table[one.event, LAST, 0][1].touch
        assert (near[-1] if near else None) == last
        assert (near[0] if near else None) == table[one.event, FIRST, 0][1].touch
    assert DIRECT not in {model for _, model, _ in table}


def test_people_are_forgotten_when_nothing_can_change_any_more() -> None:
    people = People(RULES)
    people.take("usr_1", [Touch(NOW_MS, 1, "jny-1", "spring", "ntf-1")], [], NOW_MS)
    people.pass_time(NOW_MS + 8 * DAY_MS)
    assert 1 == len(people)
    people.pass_time(NOW_MS + 8 * DAY_MS + 120_000)

    assert 0 == len(people)


def test_a_look_at_people_after_a_start_changes_nobody_who_stays() -> None:
    """Else the first epoch after each start would save everybody again."""
    people = People(RULES)
    touches = [Touch(NOW_MS, 7, "jny-1", "spring", "ntf-1")]
    people.take("usr_1", touches, [], NOW_MS)
    again = People(RULES)
    again.load(people.dump())
    again.watch()
    again.pass_time(NOW_MS + 60_000)

    assert again.take_changes() is None
    assert people.dump() == again.dump()
