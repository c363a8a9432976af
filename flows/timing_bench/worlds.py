"""Simulated worlds: who answers when, and what can be seen of it.

Every person answers a notification with probability sigmoid(level + curve[slot]) over the 168
local hours of the week. What differs between worlds is where the curves come from, how high they
are, and whether what people do on their own (activity) says anything about when they answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

DAY: Final = 24
WEEK: Final = 168
FIRST_HOUR: Final = 7  # quiet hours are 22:00 to 07:00 local
LAST_HOUR: Final = 21

_HOURS: Final = np.arange(DAY, dtype=np.float64)
_WEEKEND: Final = np.arange(WEEK) // DAY >= 5  # noqa: PLR2004 - Saturday is day 5


class Curves(StrEnum):
    """Where the curves of a world come from."""

    TYPES = "types"  # one of six latent chronotypes, shifted a little for each person
    SAME = "same"  # one for everybody
    OWN = "own"  # a peak anywhere, each person for themselves: no clusters to find
    FLAT = "flat"  # the hour does not matter


@dataclass(frozen=True, kw_only=True)
class World:
    """What a simulated world is like.

    Units: `height` in logits from the mean of the waking hours to about the peak; shares 0 to 1.
    """

    name: str
    height: float
    curves: Curves = Curves.TYPES
    activity_tells: bool = True
    drift_share: float = 0.0  # of the people; they take another curve halfway
    hour_jump: bool = False  # clocks change halfway: what is seen in UTC moves by an hour
    joins_late: float = 0.0  # share of the people who join during the run
    rate_spread: float = 0.0  # sigma of the log of how often a person is sent to


WORLDS: Final = {
    world.name: world
    for world in (
        World(name="strong", height=2.6),
        World(name="medium", height=1.4),
        World(name="weak", height=0.75),
        World(name="null", height=0.0, curves=Curves.FLAT),
        World(name="global", height=1.8, curves=Curves.SAME),
        World(name="no-clusters", height=0.6, curves=Curves.OWN),
        World(name="drift", height=1.4, drift_share=0.5),
        World(name="busy", height=1.4, activity_tells=False),
        World(name="clock-change", height=1.4, hour_jump=True),
        World(name="cold-start", height=1.4, joins_late=0.7),
        World(name="heavy-tailed", height=1.4, rate_spread=1.2),
    )
}


@dataclass(frozen=True, kw_only=True)
class Crowd:
    """The people of a world. Shapes: one row a person; slots are 168, Monday 00:00 first."""

    types: Ints  # chronotype of each person, (n,)
    answer: Floats  # probability of an answer, (n, 168)
    answer_later: Floats  # the same after the middle of the run
    activity: Floats  # share of own activity by slot, (n, 168), rows add up to 1
    activity_later: Floats
    sessions: Floats  # own activities a day, (n,)
    preference: Ints  # stated slot, or -1, (n,)
    joins: Floats  # share of the run after which a person appears, (n,)
    rate: Floats  # relative number of notifications, mean 1, (n,)


def _bump(peak: Floats, width: float) -> Floats:
    """One bump around the clock for each peak, from about 0 to 1. Shapes: (n, 24)."""
    angle = 2 * np.pi * (_HOURS[None] - peak[:, None]) / DAY
    return np.asarray(np.exp(width * (np.cos(angle) - 1.0)))


def _week(workday: Floats, weekend: Floats) -> Floats:
    """Lay two days out over the week. Shapes: (n, 24) twice to (n, 168)."""
    return np.concatenate([np.tile(workday, 5), np.tile(weekend, 2)], axis=1)


def _centred(curve: Floats) -> Floats:
    waking = (np.arange(WEEK) % DAY >= FIRST_HOUR) & (np.arange(WEEK) % DAY <= LAST_HOUR)
    return np.asarray(curve - curve[:, waking].mean(axis=1, keepdims=True))


# Peaks on workdays (two may be the same), and by how many hours the weekend is later.
_CHRONOTYPES: Final = (
    (7.5, 7.5, 2.0),
    (8.0, 18.0, 3.0),
    (12.5, 12.5, 1.0),
    (16.0, 16.0, -1.0),
    (19.5, 19.5, -2.0),
    (21.0, 21.0, 0.5),
)


def _curve_of_types(types: Ints, shift: Floats) -> Floats:
    peaks = np.array(_CHRONOTYPES)[types]
    first, second = peaks[:, 0] + shift, peaks[:, 1] + shift
    later = peaks[:, 2]

    def day(offset: Floats) -> Floats:
        return np.maximum(_bump(first + offset, 4.0), _bump(second + offset, 4.0))

    return _centred(_week(day(np.zeros(len(types))), day(later)))


def _curves(world: World, n: int, rng: np.random.Generator, types: Ints) -> Floats:
    match world.curves:
        case Curves.FLAT:
            return np.zeros((n, WEEK))
        case Curves.SAME:
            return np.repeat(_curve_of_types(np.array([4]), np.zeros(1)), n, axis=0)
        case Curves.OWN:
            peak = rng.uniform(FIRST_HOUR - 0.5, LAST_HOUR + 0.5, n)
            day = _bump(peak, 4.0)
            return _centred(_week(day, day))
        case Curves.TYPES:
            return _curve_of_types(types, rng.normal(0.0, 0.7, n))


def make_crowd(world: World, *, people: int, seed: int) -> Crowd:
    """Draw the people of a world. State: none; the same seed draws the same people."""
    rng = np.random.default_rng([seed, 1])
    shares = rng.dirichlet(np.full(len(_CHRONOTYPES), 5.0))
    types = rng.choice(len(shares), size=people, p=shares)
    level = rng.normal(-2.2, 0.7, people)[:, None]
    height = world.height * np.exp(rng.normal(0.0, 0.25, people))[:, None]
    curve = _curves(world, people, rng, types)
    later = curve.copy()
    moved = rng.random(people) < world.drift_share
    others = (types + rng.integers(1, len(shares), people)) % len(shares)
    other_curve = _curves(world, people, rng, others)
    later[moved] = other_curve[moved]
    if world.activity_tells and world.curves is not Curves.FLAT:
        seen, seen_later = curve, later
    else:  # people are somewhere else than where they answer
        strangers = rng.choice(len(shares), size=people, p=shares)
        seen = _curve_of_types(strangers, rng.normal(0.0, 0.7, people))
        seen_later = seen
    return Crowd(
        types=types,
        answer=_sigmoid(level + height * curve),
        answer_later=_sigmoid(level + height * later),
        activity=_activity(seen, rng),
        activity_later=_activity(seen_later, rng),
        sessions=np.exp(rng.normal(-0.7, 0.6, people)),
        preference=_preferences(curve, rng),
        joins=np.where(rng.random(people) < world.joins_late, rng.random(people) * 0.9, 0.0),
        rate=_rates(world, people, rng),
    )


def _sigmoid(logit: Floats) -> Floats:
    return 1.0 / (1.0 + np.exp(-logit))


def _activity(curve: Floats, rng: np.random.Generator) -> Floats:
    """People are awake from six to midnight, and more active around their own peaks."""
    hour = np.arange(WEEK) % DAY
    awake = np.where((hour >= 6) & (hour < DAY), 1.0, 0.1)  # noqa: PLR2004 - o'clock
    strength = rng.uniform(0.4, 1.4, len(curve))[:, None]
    weight = awake * np.exp(strength * curve)
    return np.asarray(weight / weight.sum(axis=1, keepdims=True))


def _preferences(curve: Floats, rng: np.random.Generator) -> Ints:
    """Three in ten state a slot; three in four of those know themselves."""
    n = len(curve)
    hour = np.arange(WEEK) % DAY
    waking = (hour >= FIRST_HOUR) & (hour <= LAST_HOUR) & ~_WEEKEND
    weight = np.where(waking, np.exp(2.0 * curve), 0.0)
    weight /= weight.sum(axis=1, keepdims=True)
    knows = rng.random(n) < 0.75  # noqa: PLR2004
    weight[~knows] = waking / waking.sum()
    drawn = (rng.random((n, 1)) > weight.cumsum(axis=1)).sum(axis=1).clip(0, WEEK - 1)
    return np.where(rng.random(n) < 0.3, drawn, -1)  # noqa: PLR2004


def _rates(world: World, n: int, rng: np.random.Generator) -> Floats:
    if not world.rate_spread:
        return np.ones(n)
    rate = np.exp(rng.normal(0.0, world.rate_spread, n)).clip(0.02, 20.0)
    return np.asarray(rate / rate.mean())
