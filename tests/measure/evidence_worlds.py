"""Invented worlds for the tests of evidence: who responds when, and who is in which arm."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from flows.model.evidence.compare import SUMS
from flows.model.evidence.off_policy import Decisions, Target
from flows.model.evidence.slots import SLOTS

Array = npt.NDArray[np.float64]


def single_sends(
    rng: np.random.Generator, sends: int, *, holdout: float, base: float, lift: float
) -> Array:
    """Sums after each send, every send to another person. Shapes: (sends, 2, 7)."""
    arms = (rng.random(sends) < holdout).astype(np.intp)
    responded = rng.random(sends) < np.where(arms == 0, base + lift, base)
    sums = np.zeros((sends, 2, len(SUMS)))
    for arm in (0, 1):
        sent = np.cumsum(arms == arm)
        hits = np.cumsum(responded & (arms == arm))
        for place, column in enumerate((sent, sent, hits, hits, sent, hits, hits)):
            sums[:, arm, place] = column
    return sums


def paying_sends(rng: np.random.Generator, sends: int, *, holdout: float, base: float) -> Array:
    """The same without a lift, where a response is worth an amount with a heavy tail.

    Amounts are log-normal with sigma 1 around a median of 1,000, so 1,649 on average.
    """
    arms = (rng.random(sends) < holdout).astype(np.intp)
    responded = rng.random(sends) < base
    amounts = np.where(responded, np.exp(np.log(1_000.0) + rng.standard_normal(sends)), 0.0)
    sums = np.zeros((sends, 2, len(SUMS)))
    for arm in (0, 1):
        one = arms == arm
        sent, hits = np.cumsum(one), np.cumsum(responded & one)
        paid, squares = np.cumsum(amounts * one), np.cumsum(amounts * amounts * one)
        for place, column in enumerate((sent, sent, hits, paid, sent, paid, squares)):
            sums[:, arm, place] = column
    return sums


def same_people(
    rng: np.random.Generator, *, people: int, rounds: int, holdout: float, lift: float, looks: int
) -> Array:
    """Sums while the same people get one send a round, each for ever in one arm.

    Rates differ between people as Beta(1, 9): one tenth on average, and far apart.
    Shapes: (looks, 2, 7), so many `looks` in each of the rounds.
    """
    arms = (rng.random(people) < holdout).astype(np.intp)
    rates = np.clip(rng.beta(1.0, 9.0, people) + np.where(arms == 0, lift, 0.0), 0.0, 1.0)
    sent, hits = np.zeros(people), np.zeros(people)
    found = []
    for _ in range(rounds):
        for part in np.array_split(rng.permutation(people), looks):
            sent[part] += 1
            hits[part] += rng.random(len(part)) < rates[part]
            columns = (sent > 0, sent, hits, hits, sent * sent, sent * hits, hits * hits)
            found.append(np.stack([np.bincount(arms, column, 2) for column in columns], axis=1))
    return np.array(found)


def as_single(sums: Array) -> Array:
    """The same sums read as if every send went to another person: what must not be done."""
    sent, hits = sums[..., 1], sums[..., 2]
    return np.stack([sent, sent, hits, hits, sent, hits, hits], axis=-1)


class Picks(NamedTuple):
    """Exploration picks among bins with odds that change. Shapes: (n,), (n, bins), (n,), (n,)."""

    picked: npt.NDArray[np.intp]
    odds: Array
    responded: Array
    expected: Array


def draw_picks(rng: np.random.Generator, count: int, *, bins: int, best_lift: float) -> Picks:
    """People differ, odds follow the person, and the first bin is better by `best_lift`."""
    rates = np.clip(rng.beta(1.0, 9.0, count), 0, 1)
    raw = rng.gamma(0.5 + 2 * rates[:, None], 1.0, (count, bins)) + 0.02
    odds = raw / raw.sum(axis=1, keepdims=True)
    picked = (rng.random((count, 1)) < odds.cumsum(axis=1)).argmax(axis=1)
    chance = np.clip(rates + np.where(picked == 0, best_lift, 0.0), 0, 1)
    responded = (rng.random(count) < chance).astype(np.float64)
    return Picks(picked, odds, responded, np.full(count, 0.1))


def people_and_hours(
    rng: np.random.Generator, *, people: int, sends: int, strength: float, adaptive: bool
) -> tuple[Array, Array]:
    """Sends and responses by person and hour of the day; three groups with hours of their own.

    `adaptive` sends again where there was a response, seven times of ten.
    """
    hours = np.arange(24)
    centre = rng.choice([8, 13, 20], people)[:, None]
    curve = 0.5 * np.cos(2 * np.pi * (hours - 18) / 24)[None]
    curve = curve + strength * np.cos(2 * np.pi * (hours[None] - centre) / 24)
    rates = 1 / (1 + np.exp(-(-2.5 + rng.standard_normal(people)[:, None] + curve)))
    sent, hits = np.zeros((people, 24)), np.zeros((people, 24))
    everyone = np.arange(people)
    for _ in range(sends):
        hour = rng.integers(0, 24, people)
        if adaptive:
            best = ((hits + 0.5) / (sent + 5)).argmax(axis=1)
            hour = np.where(rng.random(people) < 0.3, hour, best)
        sent[everyone, hour] += 1
        hits[everyone, hour] += rng.random(people) < rates[everyone, hour]
    return sent, hits


class Logged(NamedTuple):
    """A log of decisions, and the true mean reward of each slot at each decision."""

    decisions: Decisions
    truth: Array

    def value(self, target: Target) -> float:
        """What the policy truly reaches on these decisions."""
        return float((target(self.decisions, slice(None)) * self.truth).sum(axis=1).mean())


def draw_log(rng: np.random.Generator, *, people: int, each: int) -> Logged:
    """A log of people with levels and hours of their own, drawn with odds that favour a guess."""
    count = people * each
    subjects = np.repeat(np.arange(people), each)
    hours = np.arange(SLOTS) % 24
    own = rng.choice([8, 13, 20], people)
    level = rng.beta(2.0, 14.0, people)
    near = np.cos(2 * np.pi * (hours[None] - own[subjects][:, None]) / 24)
    truth = np.clip(level[subjects][:, None] * (1 + 0.6 * near), 0.0, 1.0)
    awake = (hours >= 8) & (hours < 22)
    allowed = awake[None] & (rng.random((count, SLOTS)) < 0.3)
    allowed[:, 12] = True
    guess = truth + 0.05 * rng.standard_normal((count, SLOTS))
    best = np.where(allowed, guess, -np.inf).argmax(axis=1)
    odds = 0.5 * allowed / allowed.sum(axis=1, keepdims=True)
    odds[np.arange(count), best] += 0.5
    slots = (rng.random((count, 1)) < odds.cumsum(axis=1)).argmax(axis=1)
    rows = np.arange(count)
    rewards = (rng.random(count) < truth[rows, slots]).astype(np.float64)
    return Logged(Decisions(subjects, slots, odds[rows, slots], allowed, rewards, best), truth)
