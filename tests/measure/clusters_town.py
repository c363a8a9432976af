"""Residents and newcomers of simulated worlds, and what sending to a cluster's hour costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from flows.model import DeliveryTimeModel
from flows.model.shapes import FLAT, HOURS, SLOTS, Floats, in_rhythm, smoother
from flows.timing_bench.worlds import FIRST_HOUR, LAST_HOUR, WORLDS, Crowd, Ints, make_crowd

RESIDENTS: Final = 600
NEWCOMERS: Final = 300
SENDS: Final = 20
SEEN: Final = 5
_DAYS: Final = SLOTS // HOURS
_WAKING: Final = np.arange(FIRST_HOUR, LAST_HOUR + 1)
# So many sends of everybody's are added to each hour of a cluster, since few tell little.
_BORROWED: Final = 20.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Town:
    """Residents with a past, then newcomers with a few activities. Shapes: one row a person.

    `activity` and `seen` are counts by slot (n, 168); `slots` and `responded` what residents were
    sent at random waking hours (n, sends); `answer` is what newcomers would do by hour (m, 24).
    """

    world: str
    crowd: Crowd
    activity: Ints
    slots: Ints
    responded: np.ndarray[tuple[int, int], np.dtype[np.bool_]]
    seen: Ints
    answer: Floats


def make_town(world: str, *, activities: int, seed: int) -> Town:
    """Draw a town; the same seed draws the same one, with the same people at any activity."""
    people = RESIDENTS + NEWCOMERS
    crowd = make_crowd(WORLDS[world], people=people, seed=seed)
    rng = np.random.default_rng([seed, 3])
    share = crowd.activity / crowd.activity.sum(axis=1, keepdims=True)
    days = rng.integers(0, _DAYS, (RESIDENTS, SENDS))
    slots = days * HOURS + rng.integers(FIRST_HOUR, LAST_HOUR + 1, (RESIDENTS, SENDS))
    chance = crowd.answer[np.arange(RESIDENTS)[:, None], slots]
    return Town(
        world=world,
        crowd=crowd,
        slots=slots,
        responded=rng.random(slots.shape) < chance,
        seen=rng.multinomial(SEEN, share[RESIDENTS:]),
        activity=rng.multinomial(activities, share[:RESIDENTS]),
        answer=by_hour(crowd.answer[RESIDENTS:]) / _DAYS,
    )


def by_hour(by_slot: Floats | Ints) -> Floats:
    """Add up the days of the week. Shapes: (n, 168) to (n, 24)."""
    return np.asarray(by_slot.reshape(-1, _DAYS, HOURS).sum(axis=1), dtype=np.float64)


def agreement(truth: Ints, labels: Ints) -> float:
    """Adjusted Rand index: 1 is perfect, 0 is luck or one cluster for all."""
    table = np.zeros((int(truth.max()) + 1, int(labels.max()) + 1))
    np.add.at(table, (truth, labels), 1.0)
    together = _pairs(table)
    one, other = _pairs(table.sum(axis=1)), _pairs(table.sum(axis=0))
    luck = one * other / _pairs(table.sum())
    most = (one + other) / 2
    return float((together - luck) / (most - luck)) if most > luck else 0.0


def _pairs(count: Floats) -> float:
    return float((count * (count - 1) / 2).sum())


def regret(town: Town, hours: Ints) -> float:
    """What newcomers lose by these hours, as a share of what a random waking hour loses."""
    waking = town.answer[:, _WAKING]
    best = waking.max(axis=1)
    got = town.answer[np.arange(len(hours)), hours]
    return float((best - got).sum() / (best - waking.mean(axis=1)).sum())


def best_waking(value: Floats) -> Ints:
    """The waking hour of most value. Shapes: (n, 24) to (n,)."""
    return np.asarray(_WAKING[value[:, _WAKING].argmax(axis=1)])


def active_hours(town: Town, residents: Ints, newcomers: Ints) -> Ints:
    """The hour at which each newcomer's cluster is most active."""
    active = _sum_by(residents, by_hour(town.activity)) @ smoother()
    return best_waking(active)[_known(residents, newcomers)]


def answered_hours(town: Town, residents: Ints, newcomers: Ints) -> Ints:
    """The hour at which each newcomer's cluster has answered most of what it was sent."""
    sent, answered = (np.zeros((RESIDENTS, HOURS)) for _ in range(2))
    rows = np.arange(RESIDENTS)[:, None]
    np.add.at(sent, (rows, town.slots % HOURS), 1.0)
    np.add.at(answered, (rows, town.slots % HOURS), town.responded.astype(np.float64))
    rate = answered.sum(axis=0) @ smoother() / np.maximum(sent.sum(axis=0) @ smoother(), 1e-9)
    sent, answered = (_sum_by(residents, counts) @ smoother() for counts in (sent, answered))
    value = (answered + _BORROWED * rate) / (sent + _BORROWED)
    return best_waking(value)[_known(residents, newcomers)]


def _sum_by(labels: Ints, counts: Floats) -> Floats:
    """Sums of each cluster, and of everybody in a last row. Shapes: (n, 24) to (k + 1, 24)."""
    sums = np.zeros((int(labels.max()) + 2, HOURS))
    np.add.at(sums, labels, counts)
    sums[-1] = counts.sum(axis=0)
    return sums


def _known(residents: Ints, newcomers: Ints) -> Ints:
    """Clusters of newcomers; where no resident is, the last row: everybody."""
    return np.where(np.isin(newcomers, residents), newcomers, int(residents.max()) + 1)


def by_type(town: Town) -> tuple[Ints, Ints]:
    """Who knew how active each type is could part people so: no method can do much better."""
    types = town.crowd.types
    mean = np.array([town.crowd.activity[types == one].mean(axis=0) for one in np.unique(types)])
    prior = np.log(np.bincount(types)[np.unique(types)])
    here, there = (
        (counts @ np.log(mean).T + prior).argmax(axis=1) for counts in (town.activity, town.seen)
    )
    return here, there


def ours(town: Town, *, answers: bool) -> DeliveryTimeModel:
    """The delivery-time model after the residents' past, with newcomers' activities known."""
    model = DeliveryTimeModel(seed=0)
    for name, counts in (("usr", town.activity), ("new", town.seen)):
        who, slots = np.nonzero(counts)
        times = counts[who, slots]
        names = [f"{name}_{number}" for number in np.repeat(who, times)]
        model.observe_activity(names, np.repeat(slots, times))
    for one in range(SENDS if answers else 0):
        users = [f"usr_{number}" for number in range(RESIDENTS)]
        model.learn(users, town.slots[:, one], town.responded[:, one])
    for _ in range(8):
        model.update_population()
    return model


def our_labels(model: DeliveryTimeModel) -> Ints:
    """The rhythm of the greatest weight of each resident, but the common and the flat one."""
    names = [f"usr_{number}" for number in range(RESIDENTS)]
    weight = np.array([model.posterior(name).shapes for name in names]) @ in_rhythm()
    return np.asarray(weight[:, FLAT + 1 :].argmax(axis=1))


def our_hours(model: DeliveryTimeModel) -> Ints:
    """The hour at which the model expects most of each newcomer, all days together."""
    return best_waking(by_hour(model.predict([f"new_{number}" for number in range(NEWCOMERS)])))
