"""What all people share: how common each rhythm is, how it bends, and what activity tells.

An atom k = (level l, shape j) answers with probability sigmoid(LEVELS[l] + curve[j, bin]).
`Curves` are the parameters; `Sums` are what one sweep over people adds up, so that sums of shards
merge by addition; `next_curves` makes parameters of sums.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from typing import Final, Self

import numpy as np

from flows.model.shapes import (
    BINS,
    EVERYONE,
    HOURS,
    LEVEL_COUNT,
    LEVELS,
    Floats,
    centre,
    dictionary,
    in_rhythm,
    smooth,
    smoother,
)

# Weights that the activity view may take; which one, the data says.
ACTIVITY_WEIGHTS: Final = np.array([0.0, 0.05, 0.12, 0.25, 0.5, 0.75, 1.0])
PRIOR_PEOPLE: Final = 60.0
_LEVEL_SPREAD: Final = 1.2
_ACTIVITY_PRIOR: Final = 150.0
_PREFERENCE_PRIOR: Final = 20.0
_FIRST_VARIANCE: Final = 0.05
_VARIANCE_BINS: Final = 12.0
_HAZARD_PRIOR: Final = (0.5, 25.0)


@dataclass(eq=False)
class Sums:
    """What a sweep adds up over people at one state of the curves.

    Shapes: J shapes, L levels; `pull` and `grip` are gradient and information of each shape's
    logits. All of it adds up over shards.
    """

    people: Floats
    weight: Floats
    pull: Floats
    grip: Floats
    sent: Floats
    answered: Floats
    activity: Floats
    activity_all: Floats
    preference: Floats
    view_score: Floats
    changes: Floats

    @classmethod
    def zero(cls) -> Self:
        """Sums over nobody."""
        j = len(dictionary().curve)
        return cls(
            people=np.zeros(1),
            weight=np.zeros((LEVEL_COUNT, j)),
            pull=np.zeros((j, BINS)),
            grip=np.zeros((j, BINS)),
            sent=np.zeros(1),
            answered=np.zeros(1),
            activity=np.zeros((in_rhythm().shape[1], HOURS)),
            activity_all=np.zeros(HOURS),
            preference=np.zeros((j, HOURS)),
            view_score=np.zeros(len(ACTIVITY_WEIGHTS)),
            changes=np.zeros(2),
        )

    def __add__(self, other: Sums) -> Sums:
        return self._with(other, 1.0)

    def __sub__(self, other: Sums) -> Sums:
        return self._with(other, -1.0)

    def _with(self, other: Sums, sign: float) -> Sums:
        return Sums(
            **{
                field.name: getattr(self, field.name) + sign * getattr(other, field.name)
                for field in fields(self)
            }
        )


@dataclass(frozen=True, eq=False)
class Curves:
    """The population's parameters, and the tables that posteriors read."""

    curve: Floats  # (J, 48) logits
    share: Floats  # (L, J), adds up to 1
    log_activity: Floats  # (J, 24)
    log_preference: Floats  # (J, 24)
    activity_weight: float
    hazard: float  # chance that a person has changed between two windows
    step: int

    @cached_property
    def answer(self) -> Floats:
        """Probability of an answer. Shapes: (L * J, 48)."""
        logit = LEVELS[:, None, None] + self.curve[None]
        return (1.0 / (1.0 + np.exp(-logit))).reshape(-1, BINS)

    @cached_property
    def log_odds(self) -> Floats:
        """Shapes: (48, L * J), so that counts multiply from the left."""
        logit = LEVELS[:, None, None] + self.curve[None]
        return np.ascontiguousarray(logit.reshape(-1, BINS).T)

    @cached_property
    def log_silence(self) -> Floats:
        """Logarithm of no answer. Shapes: (48, L * J)."""
        return np.ascontiguousarray(np.log1p(-self.answer).T)

    @cached_property
    def log_shape_share(self) -> Floats:
        """Shapes: (J,)."""
        return np.asarray(np.log(self.share.sum(axis=0) + 1e-300))

    @cached_property
    def log_share(self) -> Floats:
        """Shapes: (L * J,)."""
        return np.log(self.share.ravel() + 1e-300)


def first_curves() -> Curves:
    """Parameters before any data."""
    shapes = dictionary()
    nothing = Sums.zero()
    return Curves(
        curve=shapes.curve.copy(),
        share=_prior_share(-2.0),
        log_activity=_activity_view(nothing),
        log_preference=_preference_view(shapes.curve, nothing),
        activity_weight=0.5,
        hazard=_HAZARD_PRIOR[0] / _HAZARD_PRIOR[1],
        step=0,
    )


def next_curves(now: Curves, sums: Sums) -> Curves:
    """One step up the posterior of the population's parameters. State: none."""
    rate = (float(sums.answered[0]) + 1.0) / (float(sums.sent[0]) + 8.0)
    prior = _prior_share(float(np.log(rate / (1.0 - rate))))
    share = (sums.weight + PRIOR_PEOPLE * prior) / (float(sums.people[0]) + PRIOR_PEOPLE)
    shapes = dictionary()
    stiff = np.repeat(shapes.stiffness[:, None], BINS, axis=1)
    stiff[EVERYONE] = _stiffness_of_everyone(now.curve[EVERYONE], sums.grip[EVERYONE])
    pull = smooth(sums.pull - stiff * (now.curve - shapes.curve))
    step = pull / smooth(sums.grip + stiff)
    pace = np.full((len(stiff), 1), 0.5)
    pace[EVERYONE] = 1.0
    curve = centre(now.curve + pace * step.clip(-1.5, 1.5))
    changed, looked = float(sums.changes[0]), float(sums.changes[1])
    return Curves(
        curve=curve,
        share=share,
        log_activity=_activity_view(sums),
        log_preference=_preference_view(curve, sums),
        activity_weight=_activity_weight(sums),
        hazard=(_HAZARD_PRIOR[0] + changed) / (_HAZARD_PRIOR[1] + looked),
        step=now.step + 1,
    )


def _stiffness_of_everyone(curve: Floats, grip: Floats) -> float:
    """How far the population's curve is from flat, for what noise in it is taken for real.

    One step of the usual maximum of the marginal likelihood of a variance.
    """
    known = smooth(grip + 1.0)
    variance = (_FIRST_VARIANCE * _VARIANCE_BINS + (curve**2 + 1.0 / known).sum()) / (
        _VARIANCE_BINS + BINS
    )
    return float(1.0 / variance)


def _prior_share(middle: float) -> Floats:
    level = np.exp(-0.5 * ((LEVELS - middle) / _LEVEL_SPREAD) ** 2)
    return np.outer(level / level.sum(), dictionary().prior)


def _activity_view(sums: Sums) -> Floats:
    """Own activity by rhythm; before data, likelier where answers are."""
    common = (sums.activity_all + 1.0) / (sums.activity_all.sum() + HOURS)
    first = in_rhythm().T @ dictionary().curve[:, :HOURS] / in_rhythm().sum(axis=0)[:, None]
    expected = common * np.exp(first)
    expected /= expected.sum(axis=1, keepdims=True)
    seen = (_ACTIVITY_PRIOR * expected + sums.activity) @ smoother()
    return np.asarray(in_rhythm() @ np.log(seen / seen.sum(axis=1, keepdims=True)))


def _preference_view(curve: Floats, sums: Sums) -> Floats:
    expected = np.exp(1.2 * curve[:, :HOURS]) + 0.2
    expected /= expected.sum(axis=1, keepdims=True)
    seen = (_PREFERENCE_PRIOR * expected + sums.preference) @ smoother()
    return np.asarray(np.log(seen / seen.sum(axis=1, keepdims=True)))


def _activity_weight(sums: Sums) -> float:
    """The weight under which activity foretold answers best, averaged over what is plausible."""
    prior = -0.5 * ((np.log(ACTIVITY_WEIGHTS + 0.03) - np.log(0.53)) / 0.8) ** 2
    score = sums.view_score - sums.view_score.max() + prior
    chance = np.exp(score - score.max())
    return float(chance @ ACTIVITY_WEIGHTS / chance.sum())
