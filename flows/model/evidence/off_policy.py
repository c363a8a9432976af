"""What another policy would have reached, from decisions logged with their odds."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from flows.model.evidence.slots import SLOTS

Array = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.intp]

FOLDS: Final = 5
CHUNK: Final = 20_000
"""Decisions whose odds over all slots are held at once."""

NORMAL_95: Final = 1.959963984540054
FREEDOM_MIN: Final = 3.0
"""Degrees of freedom that an interval has at least: with fewer it would be endless."""

EFFECTIVE_MIN: Final = 200.0
"""Below so many effective decisions the intervals are not to be trusted."""

TOP_SHARE_MAX: Final = 0.05
"""Share of all weight that one decision may carry."""

UNSUPPORTED_SIGMAS: Final = 4.0
_ROUNDING: Final = 1e-6
_SHRINK: Final = 20.0
"""Decisions that hold a slot's mean to its hour's, and an hour's to that of all."""


class Decisions(msgspec.Struct, frozen=True):
    """Logged decisions whose outcome is known, as columns.

    Shapes: (n,) each, but `allowed` (n, 168). `subjects` are numbers from 0, one for each person;
    `slots` what was picked and `odds` how likely that was; `best` is the slot that the logging
    policy favoured, -1 where that is not known.
    """

    subjects: Ints
    slots: Ints
    odds: Array
    allowed: Bools
    rewards: Array
    best: Ints

    def __len__(self) -> int:
        """How many decisions there are."""
        return len(self.slots)


Target = Callable[[Decisions, slice], Array]
"""A policy: its odds for some of the decisions. Shapes: (part, 168), each row adds up to 1."""


class Estimate(msgspec.Struct, frozen=True):
    """A mean reward per decision with its 95 % interval, at one look at a fixed log."""

    value: float
    low: float
    high: float


class Evaluation(msgspec.Struct, frozen=True):
    """What a policy would have reached.

    Units: `effective` is how many decisions of the policy itself would tell as much. `warnings`
    say in words why the figures may not be trusted.
    """

    policy: str
    decisions: int
    subjects: int
    logged: Estimate
    ips: Estimate
    snips: Estimate
    doubly_robust: Estimate
    effective: float
    mean_weight: float
    warnings: tuple[str, ...]


def evaluate(name: str, decisions: Decisions, target: Target, *, seed: int = 0) -> Evaluation:
    """Estimate the mean reward of a policy three ways, with intervals over people.

    Inverse propensity (IPS), self-normalised (SNIPS), and doubly robust with a reward model that
    never saw the person it predicts. Decisions of one person are not independent, so the spread
    is taken over people.
    Errors: ValueError for a log without decisions, or with odds that are not above 0.
    Source: Dudík, Langford and Li (2011), Doubly robust policy evaluation and learning;
    Swaminathan and Joachims (2015), The self-normalized estimator; cross-fitting after
    Chernozhukov et al. (2018).
    """
    if not len(decisions) or not bool((decisions.odds > 0).all()):
        raise ValueError("expected decisions, each with odds above 0")
    weights, model_target, model_picked = _weigh(decisions, target, seed)
    rewards, subjects = decisions.rewards, decisions.subjects
    mean_weight = float(weights.mean())
    snips = float((weights * rewards).sum() / max(float(weights.sum()), 1e-12))
    robust = model_target + weights * (rewards - model_picked)
    scale = max(mean_weight, 1e-12)
    effective = float(weights.sum() ** 2 / max(float((weights**2).sum()), 1e-12))
    support = _spread(weights, subjects, weights)
    mean_of = partial(_estimate, subjects=subjects, weights=weights)
    return Evaluation(
        policy=name,
        decisions=len(decisions),
        subjects=len(np.unique(subjects)),
        logged=_estimate(rewards, subjects=subjects, weights=np.ones(len(weights))),
        ips=mean_of(weights * rewards),
        snips=mean_of(snips + weights * (rewards - snips) / scale),
        doubly_robust=mean_of(robust),
        effective=effective,
        mean_weight=mean_weight,
        warnings=_warnings(weights, effective, support),
    )


def _weigh(decisions: Decisions, target: Target, seed: int) -> tuple[Array, Array, Array]:
    """Each decision's weight, and what the reward model expects of the policy and of the pick."""
    people = int(decisions.subjects.max()) + 1
    fold_of = np.random.default_rng(seed).permutation(people) % FOLDS
    folds = fold_of[decisions.subjects]
    expected = _reward_model(decisions, folds)
    weights = np.empty(len(decisions))
    of_target = np.empty(len(decisions))
    for start in range(0, len(decisions), CHUNK):
        part = slice(start, min(start + CHUNK, len(decisions)))
        chances = target(decisions, part)
        rows = np.arange(len(chances))
        weights[part] = chances[rows, decisions.slots[part]] / decisions.odds[part]
        of_target[part] = (chances * expected[folds[part]]).sum(axis=1)
    return weights, of_target, expected[folds, decisions.slots]


def _reward_model(decisions: Decisions, folds: Ints) -> Array:
    """Mean reward by slot, for each fold from the others; thin slots lean on their hour."""
    cells = folds * SLOTS + decisions.slots
    tries = np.bincount(cells, minlength=FOLDS * SLOTS).reshape(FOLDS, SLOTS).astype(np.float64)
    gains = np.bincount(cells, decisions.rewards, FOLDS * SLOTS).reshape(FOLDS, SLOTS)
    tries, gains = tries.sum(axis=0) - tries, gains.sum(axis=0) - gains
    everywhere = gains.sum(axis=1) / np.maximum(tries.sum(axis=1), 1)
    by_day = (FOLDS, SLOTS // 24, 24)
    hour_tries, hour_gains = tries.reshape(by_day).sum(axis=1), gains.reshape(by_day).sum(axis=1)
    by_hour = (hour_gains + _SHRINK * everywhere[:, None]) / (hour_tries + _SHRINK)
    model: Array = (gains + _SHRINK * np.tile(by_hour, (1, SLOTS // 24))) / (tries + _SHRINK)
    return model


class _Spread(NamedTuple):
    """A mean, its standard error over people, and how many sigmas 95 % reach."""

    value: float
    error: float
    sigmas: float


def _spread(parts: Array, subjects: Ints, weights: Array) -> _Spread:
    """How far a mean may be off, people being independent.

    A few people carry most of the weight where a policy is seldom tried. Then each pulls the mean
    to itself, so what it contributes is taken as it looks without it; and the spread itself is
    known from few, so the quantile is Student's, with as many degrees of freedom as there are
    people that make the spread.
    Source: leave-one-out residuals as in the jackknife (Efron and Tibshirani 1993, An introduction
    to the bootstrap, chapter 11); degrees of freedom after Satterthwaite (1946).
    """
    value = float(parts.mean())
    sums = np.bincount(subjects, parts - value)
    share = np.bincount(subjects, weights) / max(float(weights.sum()), 1e-12)
    squares = (sums / np.maximum(1 - share, 0.5)) ** 2
    total = float(squares.sum())
    freedom = max(total**2 / max(float((squares**2).sum()), 1e-300), FREEDOM_MIN)
    return _Spread(value, math.sqrt(total) / len(parts), student_95(freedom))


def student_95(freedom: float) -> float:
    """How many sigmas 95 % reach with so many degrees of freedom, at least 3; to within 1 %.

    Source: Abramowitz and Stegun (1964), 26.7.5.

    >>> [round(student_95(freedom), 2) for freedom in (3, 10, 1e9)]
    [3.16, 2.23, 1.96]
    """
    z = NORMAL_95
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / freedom + second / freedom**2 + third / freedom**3


def _estimate(parts: Array, *, subjects: Ints, weights: Array) -> Estimate:
    """The mean and its interval."""
    value, error, sigmas = _spread(parts, subjects, weights)
    return Estimate(value, value - sigmas * error, value + sigmas * error)


def _warnings(weights: Array, effective: float, support: _Spread) -> tuple[str, ...]:
    found = []
    if effective < EFFECTIVE_MIN:
        found.append(
            f"only {effective:.0f} effective decisions of {EFFECTIVE_MIN:.0f} at least: "
            "the log says too little about this policy"
        )
    top = float(weights.max()) / max(float(weights.sum()), 1e-12)
    if top > TOP_SHARE_MAX:
        found.append(f"one decision carries {top:.0%} of all weight")
    if abs(support.value - 1) > UNSUPPORTED_SIGMAS * support.error + _ROUNDING:
        found.append(
            f"weights average {support.value:.2f} and not 1: the policy picks slots that the log "
            "never tried, or the logged odds are wrong"
        )
    return tuple(found)


def hour_target(hours: Any) -> Target:
    """The policy that sends at an hour of the day, or as near to it as is allowed.

    Shapes: one hour for all, or one for each decision.
    """
    wanted = np.asarray(hours, np.intp)

    def odds(decisions: Decisions, part: slice) -> Array:
        allowed = decisions.allowed[part]
        asked = np.broadcast_to(wanted, (len(decisions),))[part]
        gap = np.abs(np.arange(SLOTS)[None] % 24 - asked[:, None])
        gap = np.where(allowed, np.minimum(gap, 24 - gap), SLOTS)
        return _evenly(gap == gap.min(axis=1)[:, None])

    return odds


def uniform_target(decisions: Decisions, part: slice) -> Array:
    """The policy that draws evenly from what is allowed."""
    return _evenly(decisions.allowed[part])


def favoured_target(decisions: Decisions, part: slice) -> Array:
    """The logging policy without its exploration: always the slot that it favoured.

    Where that is not known, evenly from what is allowed.
    """
    best = decisions.best[part]
    chosen = np.equal.outer(best, np.arange(SLOTS))
    return _evenly(np.where((best >= 0)[:, None], chosen, decisions.allowed[part]))


def weighted_target(weights: npt.ArrayLike) -> Target:
    """The policy that draws by fixed weights from what is allowed, evenly where none has any.

    Shapes: 168 weights, Monday 00:00 first.
    """
    given = np.asarray(weights, np.float64)

    def odds(decisions: Decisions, part: slice) -> Array:
        allowed = decisions.allowed[part]
        chances = np.where(allowed, given[None], 0.0)
        none = chances.sum(axis=1) <= 0
        return _evenly(np.where(none[:, None], allowed, chances))

    return odds


def _evenly(chances: Any) -> Array:
    odds: Array = chances / chances.sum(axis=1, keepdims=True)
    return odds


def best_hours(tries: Array, gains: Array) -> Ints:
    """Each person's hour with the best record, the population's for those without one.

    What send-time products do. The record has to end before the log that the hours are judged on.
    Shapes: both (people, 24); gives (people,).
    """
    common = (gains.sum(axis=0) + 1.0) / (tries.sum(axis=0) + 10.0)
    best: Ints = ((gains + 2 * common) / (tries + 2)).argmax(axis=1)
    return best
