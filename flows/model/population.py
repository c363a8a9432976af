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

from flows.model.anchors import anchors, first_anchors
from flows.model.shapes import (
    BINS,
    BUMPS,
    EVERYONE,
    HOURS,
    LEVEL_COUNT,
    LEVELS,
    STRENGTH_COUNT,
    Floats,
    centre,
    dictionary,
    in_rhythm,
    smooth,
    smoother,
)

# Weights that the activity view may take; which one, the data says.
# Shares of people that the population's own curve may have; again, the data says.
COMMON_SHARES: Final = np.array([0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.95, 0.98])
ACTIVITY_WEIGHTS: Final = np.array([0.0, 0.05, 0.12, 0.25, 0.5, 0.75, 1.0, 1.4])
PRIOR_PEOPLE: Final = 60.0
_INDEPENDENT_PEOPLE: Final = 400.0
# How much further than the plain update shares move: it is slow where people tell little, and past
# two it would not settle. Sums of other shards may be old, which asks for less than that.
_SHARE_PACE: Final = 1.5
_COMMON_PRIOR: Final = 0.1
_LEVEL_SPREAD: Final = 1.2
_ACTIVITY_PRIOR: Final = 100.0
_PREFERENCE_PRIOR: Final = 20.0
_FIRST_VARIANCE: Final = 0.05
_VARIANCE_BINS: Final = 12.0
_HAZARD_PRIOR: Final = (0.5, 25.0)


@dataclass(eq=False)
class Sums:
    """What a sweep adds up over people at one state of the curves.

    Shapes: J shapes, L levels; answers seen less `expected` ones are the gradient of each shape's
    logits, `grip` is their information. All of it adds up over shards.
    """

    people: Floats
    weight: Floats
    seen: Floats
    expected: Floats
    grip: Floats
    sent: Floats
    answered: Floats
    activity: Floats
    activity_all: Floats
    preference: Floats
    view_score: Floats
    common_score: Floats
    changes: Floats

    @classmethod
    def zero(cls) -> Self:
        """Sums over nobody."""
        j = len(dictionary().curve)
        return cls(
            people=np.zeros(1),
            weight=np.zeros((LEVEL_COUNT, j)),
            seen=np.zeros((j, BINS)),
            expected=np.zeros((j, BINS)),
            grip=np.zeros((j, BINS)),
            sent=np.zeros(1),
            answered=np.zeros(1),
            activity=np.zeros((in_rhythm().shape[1], BINS)),
            activity_all=np.zeros(BINS),
            preference=np.zeros((j, HOURS)),
            view_score=np.zeros(len(ACTIVITY_WEIGHTS)),
            common_score=np.zeros(len(COMMON_SHARES)),
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
    log_activity: Floats  # (J, 48)
    log_preference: Floats  # (J, 24)
    activity_weight: float
    hazard: float  # chance that a person has changed between two windows
    step: int

    @cached_property
    def _odds(self) -> Floats:
        """Odds of an answer. Shapes: (L * J, 48)."""
        return np.asarray(np.exp(LEVELS)[:, None, None] * np.exp(self.curve)).reshape(-1, BINS)

    @cached_property
    def answer(self) -> Floats:
        """Probability of an answer. Shapes: (L * J, 48)."""
        return np.asarray(self._odds / (1.0 + self._odds))

    @cached_property
    def answer_squared(self) -> Floats:
        """Shapes: (L * J, 48)."""
        return self.answer * self.answer

    @cached_property
    def answer_by_bin(self) -> Floats:
        """The same for each bin. Shapes: (48, L * J)."""
        return np.ascontiguousarray(self.answer.T)

    @cached_property
    def silence_by_bin(self) -> Floats:
        """Probability of no answer. Shapes: (48, L * J)."""
        return np.asarray(1.0 - self.answer_by_bin)

    @cached_property
    def log_tables(self) -> Floats:
        """What sends by bin, answers in all, and existing add to an atom's logarithm.

        Shapes: (48 + 2, L * J), so that counts multiply from the left.
        """
        silence = -np.log1p(self._odds).T
        level = np.repeat(LEVELS, len(self.curve))
        return np.concatenate([silence, level[None], self.log_share[None]])

    @cached_property
    def log_stated(self) -> Floats:
        """What stated hours say of each shape, and last what none says. Shapes: (J, 24 + 1)."""
        return np.concatenate([self.log_preference, np.zeros((len(self.curve), 1))], axis=1)

    @cached_property
    def log_shape_share(self) -> Floats:
        """Shapes: (J,)."""
        return np.asarray(np.log(self.share.sum(axis=0) + 1e-300))

    @cached_property
    def log_share(self) -> Floats:
        """Shapes: (L * J,)."""
        return np.log(self.share.ravel() + 1e-300)

    @cached_property
    def in_one_piece(self) -> tuple[Floats, ...]:
        """All that a kernel reads, each array in one piece; see `flows.model.kernel`."""
        tables = (
            LEVELS,
            self.log_share,
            self.curve,
            self.log_activity,
            self.log_stated,
            self.log_shape_share,
            ACTIVITY_WEIGHTS,
            COMMON_SHARES,
        )
        return tuple(map(np.ascontiguousarray, tables))


def first_curves() -> Curves:
    """Parameters before any data."""
    nothing = Sums.zero()
    curve = first_anchors()
    return Curves(
        curve=curve,
        share=_prior_share(-2.0),
        log_activity=_activity_view(curve, nothing),
        log_preference=_preference_view(curve, nothing),
        activity_weight=0.5,
        hazard=_HAZARD_PRIOR[0] / _HAZARD_PRIOR[1],
        step=0,
    )


def next_curves(now: Curves, sums: Sums) -> Curves:
    """One step up the posterior of the population's parameters. State: none."""
    rate = (float(sums.answered[0]) + 1.0) / (float(sums.sent[0]) + 8.0)
    prior = _prior_share(float(np.log(rate / (1.0 - rate))))
    shapes = dictionary()
    stiff = np.repeat(shapes.stiffness[:, None], BINS, axis=1)
    towards = anchors(now.curve, sums.seen, sums.expected, sums.grip)
    bend = now.curve[EVERYONE] - towards[EVERYONE]
    stiff[EVERYONE] = _stiffness_of_everyone(bend, sums.grip[EVERYONE])
    pull = smooth(sums.seen - sums.expected - stiff * (now.curve - towards))
    step = pull / smooth(sums.grip + stiff)
    curve = centre(now.curve + step.clip(-1.5, 1.5))
    changed, looked = float(sums.changes[0]), float(sums.changes[1])
    return Curves(
        curve=curve,
        share=_shares(now, sums, prior),
        log_activity=_activity_view(towards, sums),
        log_preference=_preference_view(curve, sums),
        activity_weight=_activity_weight(sums),
        hazard=(_HAZARD_PRIOR[0] + changed) / (_HAZARD_PRIOR[1] + looked),
        step=now.step + 1,
    )


def _shares(now: Curves, sums: Sums, prior: Floats) -> Floats:
    """How common each atom is: what people weigh, drawn towards independent parts and a prior.

    Weights alone give the usual update, share times r, where r is how much likelier people made
    an atom; a power of r goes the same way, further. Shapes: (L, J).
    """
    people = float(sums.weight.sum())
    likelier = sums.weight / (people * now.share + 1e-300)
    seen = now.share * likelier.clip(0.05, 20.0) ** _SHARE_PACE
    share = people * seen / seen.sum() + PRIOR_PEOPLE * prior
    share += _INDEPENDENT_PEOPLE * _independent(share)
    common = _common_share(sums)
    share[:, EVERYONE] *= common / share[:, EVERYONE].sum()
    share[:, EVERYONE + 1 :] *= (1.0 - common) / share[:, EVERYONE + 1 :].sum()
    return np.asarray(share)


def _independent(share: Floats) -> Floats:
    """Shares if level, strength and peak of a person told nothing of each other; adds up to one.

    A few parts are known long before all their pairs are. Shapes: (L, J).
    """
    level, shape = share.sum(axis=1), share.sum(axis=0)
    bumps = shape[BUMPS].reshape(STRENGTH_COUNT, -1)
    parts = np.outer(bumps.sum(axis=1), bumps.sum(axis=0)) / bumps.sum()
    shape[BUMPS] = parts.ravel()
    return np.asarray(np.outer(level, shape) / share.sum() ** 2)


def _stiffness_of_everyone(bend: Floats, grip: Floats) -> Floats:
    """How far the population's curve may bend, for what noise in it is taken for real.

    One step of the usual maximum of the marginal likelihood of a variance, workdays and weekends
    apart. Shapes: (48,) both times.
    """
    square = (bend**2 + 1.0 / smooth(grip + 1.0)).reshape(2, HOURS).sum(axis=1)
    variance = (_FIRST_VARIANCE * _VARIANCE_BINS + square) / (_VARIANCE_BINS + HOURS)
    return np.repeat(1.0 / variance, HOURS)


def _prior_share(middle: float) -> Floats:
    level = np.exp(-0.5 * ((LEVELS - middle) / _LEVEL_SPREAD) ** 2)
    return np.outer(level / level.sum(), dictionary().prior)


def _activity_view(anchor: Floats, sums: Sums) -> Floats:
    """Own activity by rhythm, of workdays and of weekends; before data, as answers are."""
    everybody = sums.activity_all.reshape(2, HOURS)
    common = (everybody + 1.0) / (everybody.sum(axis=1, keepdims=True) + HOURS)
    first = in_rhythm().T @ anchor / in_rhythm().sum(axis=0)[:, None]
    expected = common * np.exp(first.reshape(-1, 2, HOURS))
    expected /= expected.sum(axis=2, keepdims=True)
    seen = _ACTIVITY_PRIOR * expected + sums.activity.reshape(-1, 2, HOURS)
    seen = seen @ smoother()
    seen = np.log(seen / seen.sum(axis=2, keepdims=True))
    return np.asarray(in_rhythm() @ seen.reshape(-1, BINS))


def _preference_view(curve: Floats, sums: Sums) -> Floats:
    expected = np.exp(1.2 * curve[:, :HOURS]) + 0.2
    expected /= expected.sum(axis=1, keepdims=True)
    seen = (_PREFERENCE_PRIOR * expected + sums.preference) @ smoother()
    return np.asarray(np.log(seen / seen.sum(axis=1, keepdims=True)))


def _activity_weight(sums: Sums) -> float:
    """The weight under which activity foretold answers best, averaged over what is plausible.

    Above one it would tell more than independent signs can: that is seen where curves follow the
    answers that they are then judged by.
    """
    prior = -0.5 * ((np.log(ACTIVITY_WEIGHTS + 0.03) - np.log(0.53)) / 1.3) ** 2
    prior[ACTIVITY_WEIGHTS > 1.0] = -np.inf
    score = sums.view_score - sums.view_score.max() + prior
    chance = np.exp(score - score.max())
    return float(chance @ ACTIVITY_WEIGHTS / chance.sum())


def _common_share(sums: Sums) -> float:
    """How many people follow the population's own curve, averaged over what is plausible."""
    logit = np.log(COMMON_SHARES / (1.0 - COMMON_SHARES))
    prior = -0.5 * (logit - np.log(_COMMON_PRIOR / (1.0 - _COMMON_PRIOR))) ** 2
    score = sums.common_score - sums.common_score.max() + prior
    chance = np.exp(score - score.max())
    return float(chance @ COMMON_SHARES / chance.sum())
