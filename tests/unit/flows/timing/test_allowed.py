"""Hours that may be chosen: clocks that change, nights, deadlines, caps."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from flows.timing.allow import Allowed, Limits, allowed_slots, quiet_hours
from flows.timing.ask import Ask
from flows.timing.calendar import HOUR_MS, NEVER, QUARTER_MS, SLOTS, slot_at, week_from
from flows.timing.people import PeopleTable
from flows.timing.plans import KEPT_A_PERSON, Plans

BERLIN = "Europe/Berlin"
OPEN = Limits(
    quiet_from=0, quiet_until=0, horizon_h=168, cap_a_day=32, cap_a_channel_day=32, gap_ms=0
)
ZONES = [BERLIN, "America/St_Johns", "Asia/Kathmandu", "Australia/Lord_Howe", "Pacific/Chatham"]


def local_ms(text: str, zone: str = BERLIN, fold: int = 0) -> int:
    moment = datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold)
    return int(moment.timestamp() * 1_000)


def ask(at_ms: int, **more: Any) -> Ask:
    made: dict[str, Any] = {
        "place": 0,
        "event": "evt-1",
        "label": None,
        "journey": "jrn-1",
        "subject": "usr_1",
        "zone": BERLIN,
        "now_ms": at_ms,
        "earliest_ms": at_ms,
        "latest_ms": 0,
        "channels": ("email",),
        "priority": "normal",
        "goal": "",
        "window_ms": HOUR_MS,
        "body": None,
    }
    return Ask(**{**made, **more})


def allow(one: Ask, limits: Limits = OPEN, plans: Plans | None = None) -> Allowed:
    found = allowed_slots([one], PeopleTable(), plans or Plans(10), limits)
    return Allowed(found.slots[0], found.at_ms[0])


def hours_of(found: Allowed) -> set[int]:
    return {int(slot) % 24 for slot in np.flatnonzero(found.slots)}


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("start", ["2026-03-27T10:20", "2026-10-23T10:20", "2026-04-03T23:50"])
def test_each_moment_of_a_week_lies_in_the_hour_that_it_is_given_for(zone: str, start: str) -> None:
    from_ms = local_ms(start, zone)
    week = week_from(zone, from_ms // QUARTER_MS)

    for slot in range(SLOTS):
        if week.starts[slot] != NEVER:
            first, last = int(week.starts[slot]), int(week.ends[slot]) - 1
            assert slot == slot_at(zone, first) == slot_at(zone, last)
            assert from_ms - QUARTER_MS < first <= last < from_ms + SLOTS * HOUR_MS


def test_an_hour_that_the_clocks_skip_is_never_allowed() -> None:
    """On 2026-03-29 Berlin has no 02:00 to 03:00."""
    found = allow(ask(local_ms("2026-03-28T12:00")))
    sunday = 6 * 24

    assert not found.slots[sunday + 2]
    assert found.slots[sunday + 1]
    assert local_ms("2026-03-29T03:00") == found.at_ms[sunday + 3]
    assert local_ms("2026-03-29T03:00") - local_ms("2026-03-29T01:00") == HOUR_MS


def test_an_hour_that_the_clocks_repeat_begins_the_first_time_and_ends_the_second() -> None:
    """On 2026-10-25 Berlin has 02:00 to 03:00 twice."""
    week = week_from(BERLIN, local_ms("2026-10-24T12:00") // QUARTER_MS)
    sunday = 6 * 24

    assert local_ms("2026-10-25T02:00", fold=0) == week.starts[sunday + 2]
    assert local_ms("2026-10-25T03:00") == week.ends[sunday + 2]
    assert 2 * HOUR_MS == week.ends[sunday + 2] - week.starts[sunday + 2]


@pytest.mark.parametrize("day", ["2026-03-28", "2026-10-24", "2026-06-10"])
def test_quiet_hours_over_midnight_hold_by_the_persons_clock_whatever_it_does(day: str) -> None:
    limits = Limits(22, 8, 168, 32, 32, 0)
    found = allow(ask(local_ms(f"{day}T12:00")), limits)

    assert set(range(8, 22)) == hours_of(found)
    for at_ms in found.at_ms[found.slots].tolist():
        assert 8 <= datetime.fromtimestamp(at_ms / 1_000, ZoneInfo(BERLIN)).hour < 22


def test_quiet_hours_may_lie_within_a_day_or_be_none() -> None:
    assert [9, 10] == np.flatnonzero(quiet_hours(9, 11)).tolist()
    assert not quiet_hours(7, 7).any()


def test_an_hour_that_a_person_asked_for_is_not_quiet_for_them() -> None:
    people = PeopleTable()
    people.hold(_Profile())
    night = ask(local_ms("2026-06-10T12:00"))

    found = allowed_slots([night], people, Plans(10), Limits(22, 8, 168, 32, 32, 0))

    assert {*range(8, 22), 23} == {int(slot) % 24 for slot in np.flatnonzero(found.slots[0])}


class _Profile:
    subject, zone, preferred_hours = "usr_1", BERLIN, (23,)
    consent: Mapping[str, bool] = MappingProxyType({})


def test_a_deadline_within_the_hour_leaves_the_rest_of_this_hour() -> None:
    now_ms = local_ms("2026-06-10T12:20:30")
    found = allow(ask(now_ms, latest_ms=now_ms + 10 * 60_000))

    assert [2 * 24 + 12] == np.flatnonzero(found.slots).tolist()
    assert now_ms == found.at_ms[2 * 24 + 12]


def test_a_deadline_at_the_very_start_of_an_hour_still_allows_it_and_a_millisecond_less_not() -> (
    None
):
    now_ms, one_ms = local_ms("2026-06-10T12:20"), local_ms("2026-06-10T13:00")
    slot = 2 * 24 + 13

    assert allow(ask(now_ms, latest_ms=one_ms)).slots[slot]
    assert not allow(ask(now_ms, latest_ms=one_ms - 1)).slots[slot]


def test_nothing_is_allowed_before_the_earliest_time_however_far_it_is() -> None:
    now_ms = local_ms("2026-06-10T12:00")
    later_ms = now_ms + 20 * 24 * HOUR_MS + 1_234
    found = allow(ask(now_ms, earliest_ms=later_ms))

    assert later_ms == found.at_ms[found.slots].min()
    assert SLOTS == found.slots.sum()


def test_the_horizon_bounds_what_has_no_deadline() -> None:
    now_ms = local_ms("2026-06-10T12:00")
    found = allow(ask(now_ms), Limits(0, 0, 24, 32, 32, 0))

    assert 24 == found.slots.sum()
    assert found.at_ms[found.slots].max() < now_ms + 24 * HOUR_MS


def test_a_cap_closes_every_hour_that_would_make_too_many_within_a_day() -> None:
    now_ms = local_ms("2026-06-10T12:00")
    plans = Plans(10)
    for hour in (2, 30):
        plans.add("usr_1", now_ms + hour * HOUR_MS, "email", now_ms=now_ms)

    one = allow(ask(now_ms), Limits(0, 0, 72, 1, 32, 0), plans)
    two = allow(ask(now_ms), Limits(0, 0, 72, 2, 32, 0), plans)

    ahead = sorted((one.at_ms[one.slots] - now_ms) // HOUR_MS)
    assert [*range(54, 72)] == ahead
    assert 72 == two.slots.sum()


def test_a_channels_cap_leaves_the_hours_in_which_another_channel_may_go() -> None:
    now_ms = local_ms("2026-06-10T12:00")
    plans = Plans(10)
    plans.add("usr_1", now_ms + HOUR_MS, "email", now_ms=now_ms)
    limits = Limits(0, 0, 24, 32, 1, 0)

    assert not allow(ask(now_ms), limits, plans).slots.any()
    assert 24 == allow(ask(now_ms, channels=("email", "push")), limits, plans).slots.sum()


def test_messages_keep_their_distance_from_what_is_planned() -> None:
    now_ms = local_ms("2026-06-10T12:00")
    plans = Plans(10)
    plans.add("usr_1", now_ms + 5 * HOUR_MS, "push", now_ms=now_ms)
    found = allow(ask(now_ms), Limits(0, 0, 24, 32, 32, 2 * HOUR_MS), plans)

    closed = set(range(24)) - {int(h) for h in (found.at_ms[found.slots] - now_ms) // HOUR_MS}
    assert {4, 5, 6} == closed


def test_plans_are_bounded_and_the_one_touched_longest_ago_goes() -> None:
    plans = Plans(2)
    for number in range(KEPT_A_PERSON + 5):
        plans.add("usr_a", number * HOUR_MS, "push", now_ms=0)
    plans.add("usr_b", 0, "push", now_ms=0)
    plans.add("usr_a", 0, "push", now_ms=0)
    plans.add("usr_c", 0, "push", now_ms=0)

    assert KEPT_A_PERSON == len(plans.of("usr_a"))
    assert [] == plans.of("usr_b")
    assert [(0, "push")] == plans.of("usr_c")
