"""Whatever is asked for: a chosen time is an allowed one, and odds add up to one."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.model.evidence.explore import Exploration
from flows.timing.allow import Allowed, Limits, allowed_slots
from flows.timing.ask import Ask
from flows.timing.calendar import HOUR_MS, slot_at
from flows.timing.decide import Draw, Drawer
from flows.timing.learners import LatentClass
from flows.timing.people import PeopleTable
from flows.timing.plans import Plans
from flows.timing.trial import HoldoutRule

ZONES = ("Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "Asia/Kathmandu", "UTC")
START_MS = 1_767_225_600_000  # 2026-01-01
LEARNER = LatentClass().make(seed=3, lane=0, people_max=1_000)
LEARNER.learn([f"usr_{n % 7}" for n in range(300)], np.arange(300) % 168, np.arange(300) % 5 == 0)


class _Body:
    campaign = "spring"


@st.composite
def asks(draw: Any) -> Ask:
    now_ms = START_MS + draw(st.integers(0, 365 * 24 * HOUR_MS))
    wait_ms = draw(st.integers(0, 10 * 24 * HOUR_MS))
    left_ms = draw(st.one_of(st.none(), st.integers(0, 3 * 24 * HOUR_MS)))
    return Ask(
        place=0,
        event=f"evt-{draw(st.integers(0, 10**6))}",
        label=_LABEL,
        journey="jrn-1",
        subject=f"usr_{draw(st.integers(0, 9))}",
        zone=draw(st.sampled_from(ZONES)),
        now_ms=now_ms,
        earliest_ms=now_ms + wait_ms,
        latest_ms=0 if left_ms is None else now_ms + wait_ms + left_ms,
        channels=tuple(draw(st.sets(st.sampled_from(["email", "push"]), min_size=1))),
        priority="normal",
        goal="",
        window_ms=HOUR_MS,
        body=_Body(),
    )


_LABEL: Any = None  # nothing here asks for it
LIMITS = st.builds(
    Limits,
    quiet_from=st.integers(0, 23),
    quiet_until=st.integers(0, 23),
    horizon_h=st.integers(1, 168),
    cap_a_day=st.integers(1, 4),
    cap_a_channel_day=st.integers(1, 3),
    gap_ms=st.integers(0, 4 * HOUR_MS),
)
EXPLORE = st.sampled_from([Exploration(1.0, "collecting"), Exploration(0.05, "null_accepted")])


def decide(one: Ask, limits: Limits, explore: Exploration, planned: list[int]) -> Draw | None:
    plans = Plans(100)
    for hours in planned:
        at_ms = one.earliest_ms + hours * HOUR_MS
        plans.add(one.subject, at_ms, "email", now_ms=one.now_ms)
    allowed = allowed_slots([one], PeopleTable(), plans, limits)
    if not allowed.slots.any():
        return None
    rule = HoldoutRule(b"a key of sixteen bytes", 0.3)
    drawer = Drawer(seed=1, holdout=rule, policies={}, usual="it", floor=0.05)
    [draw] = drawer.draw([one], Allowed(*allowed), {"it": LEARNER}, explore)
    assert np.array_equal(allowed.slots[0], draw.odds > 0)
    return draw


@settings(deadline=None)
@given(asks(), LIMITS, EXPLORE, st.lists(st.integers(-30, 150), max_size=5))
def test_a_drawn_time_keeps_every_limit_and_its_odds_add_up_to_one(
    one: Ask, limits: Limits, explore: Exploration, planned: list[int]
) -> None:
    draw = decide(one, limits, explore, planned)
    if draw is None:
        return
    hour = draw.slot % 24
    first, end = limits.quiet_from, limits.quiet_until
    quiet = first <= hour < end if first <= end else hour >= first or hour < end

    assert abs(1 - draw.odds.sum()) < 1e-9
    assert draw.propensity == draw.odds[draw.slot] > 0
    assert slot_at(one.zone, draw.at_ms) == draw.slot
    assert not quiet
    assert one.earliest_ms <= draw.at_ms < one.earliest_ms + limits.horizon_h * HOUR_MS
    assert draw.at_ms <= (one.latest_ms or draw.at_ms)
    for hours in planned[-32:]:
        assert abs(draw.at_ms - one.earliest_ms - hours * HOUR_MS) >= limits.gap_ms


@settings(deadline=None)
@given(asks(), EXPLORE)
def test_a_draw_repeats(one: Ask, explore: Exploration) -> None:
    limits = Limits(22, 8, 72, 3, 3, 0)
    first, second = decide(one, limits, explore, []), decide(one, limits, explore, [])

    assert (first and first.at_ms) == (second and second.at_ms)
