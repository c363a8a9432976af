"""What is believed of people, from their counts and the population's curves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from flows.model.people import People, Rows, Singles
from flows.model.population import ACTIVITY_WEIGHTS, COMMON_SHARES, Curves, Sums
from flows.model.shapes import BINS, EVERYONE, LEVEL_COUNT, Floats, in_rhythm

# Logarithm of what is left of a shape that activity speaks against, in single precision.
_FAINT: Final = -80.0
_FAINTEST: Final = float(np.exp(_FAINT))
_FEW: Final = 16
# Below that, a product of two exponentials in single precision may have lost its digits.
_TORN: Final = np.float32(1e-30)


@dataclass(frozen=True, kw_only=True, eq=False)
class Counts:
    """Counts of a block of people in double precision. Shapes: one row a person."""

    sent: Floats  # (n, 48), all windows
    answered: Floats
    activity: Floats  # (n, 48)
    preference: Rows  # (n,) hour or -1

    @classmethod
    def of(cls, people: People, rows: Rows) -> Counts:
        """Take counts out of the slab; rows of -1 have none."""
        if not len(people.ids):
            return cls.nobody(len(rows))
        known = rows >= 0
        counts = cls(
            sent=people.sent[rows].astype(np.float64) + people.recent_sent[rows],
            answered=people.answered[rows].astype(np.float64) + people.recent_answered[rows],
            activity=people.activity[rows].astype(np.float64) + people.recent_activity[rows],
            preference=np.where(known, people.preference[rows], -1).astype(np.int64),
        )
        if not known.all():
            for values in (counts.sent, counts.answered, counts.activity):
                values[~known] = 0.0
        return counts

    @classmethod
    def past(cls, people: People, rows: Rows) -> Counts:
        """Only what came before the recent window, and the stated preference."""
        return cls(
            sent=people.sent[rows].astype(np.float64),
            answered=people.answered[rows].astype(np.float64),
            activity=people.activity[rows].astype(np.float64),
            preference=people.preference[rows].astype(np.int64),
        )

    @classmethod
    def recent(cls, people: People, rows: Rows) -> Counts:
        """Only the recent window."""
        return cls(
            sent=people.recent_sent[rows].astype(np.float64),
            answered=people.recent_answered[rows].astype(np.float64),
            activity=people.recent_activity[rows].astype(np.float64),
            preference=np.full(len(rows), -1),
        )

    def with_more(self, other: Counts) -> Counts:
        """Counts of the same people, with those of another window."""
        return Counts(
            sent=self.sent + other.sent,
            answered=self.answered + other.answered,
            activity=self.activity + other.activity,
            preference=self.preference,
        )

    def some(self, who: NDArray[np.bool_]) -> Counts:
        """Counts of some of the people. Shapes: who (n,)."""
        return Counts(
            sent=self.sent[who],
            answered=self.answered[who],
            activity=self.activity[who],
            preference=self.preference[who],
        )

    @classmethod
    def nobody(cls, n: int) -> Counts:
        """Counts of people of whom nothing is known."""
        return cls(
            sent=np.zeros((n, BINS)),
            answered=np.zeros((n, BINS)),
            activity=np.zeros((n, BINS)),
            preference=np.full(n, -1),
        )


def log_response(counts: Counts, curves: Curves, *, prior: bool = True) -> Floats:
    """Log likelihood of outcomes, and log share of each atom, but for what answers say of shapes.

    The answers' part splits into level and shape, so only the silences need a product by atom; of
    the week, only bins to which anybody of the block was sent something. Products stay in double
    precision: sums of single ones depend on who stands beside whom, and shards would not add up.
    Shapes: (L, J, n).
    """
    told, tables = np.empty((BINS + 2, len(counts.sent))), curves.log_tables
    told[:BINS] = counts.sent.T
    told[BINS] = counts.answered.sum(axis=1)
    told[BINS + 1] = float(prior)
    if told.shape[1] > _FEW:  # for few people, taking rows out costs more than multiplying them
        used = np.flatnonzero(told.any(axis=1))
        told, tables = told[used], tables[used]
    return np.asarray(tables.T @ told).reshape(LEVEL_COUNT, len(curves.curve), -1)


def log_stated(counts: Counts, curves: Curves) -> Floats:
    """Log likelihood of stated preferences under each shape. Shapes: (J, n)."""
    return np.take(curves.log_stated, counts.preference, axis=1)


@dataclass(frozen=True, eq=False)
class Evidence:
    """What counts say, split by shape, so that views can be weighed without the levels.

    Shapes: people come last, so that what is done for each atom is done for all of them at once.
    `shape` (J, n) log share times likelihood of outcomes; `level` (L, J, n) weight of levels inside
    each shape, adding up to `total` (J, n), in single precision.
    """

    shape: Floats
    level: Singles
    total: Singles

    @classmethod
    def of(cls, counts: Counts, curves: Curves) -> Evidence:
        """Weigh outcomes against every atom."""
        top, level = _levels(log_response(counts, curves))
        total = level.sum(axis=0)
        shape = np.log(total) + top + curves.curve @ counts.answered.T
        return cls(shape=shape, level=level, total=total)

    @classmethod
    def of_parts(
        cls, past: Counts, recent: Counts, curves: Curves
    ) -> tuple[Evidence, Floats, Floats]:
        """Weigh all outcomes, and each part alone, for which exponentials are shared.

        Shapes: the evidence, and `shape` of either part (J, n).
        """
        top, level = _levels(log_response(past, curves))
        recent_top, recent_level = _levels(log_response(recent, curves, prior=False))
        told, recent_told = (curves.curve @ part.answered.T for part in (past, recent))
        alone = np.log(level.sum(axis=0)) + top + told
        share = curves.share.astype(np.float32)[:, :, None]
        recent_alone = np.log((recent_level * share).sum(axis=0)) + recent_top + recent_told
        level *= recent_level
        total = level.sum(axis=0)
        torn = (total < _TORN).any(axis=0)
        shape = np.log(np.maximum(total, _TORN)) + (top + recent_top + told + recent_told)
        if torn.any():  # past and recent are so far apart that their product has no digits left
            whole = cls.of(past.some(torn).with_more(recent.some(torn)), curves)
            level[:, :, torn], total[:, torn] = whole.level, whole.total
            shape[:, torn] = whole.shape
        return cls(shape=shape, level=level, total=total), alone, recent_alone

    def beside(self, other: Evidence) -> Evidence:
        """The same of the people here, then of others."""
        return Evidence(
            shape=np.concatenate([self.shape, other.shape], axis=-1),
            level=np.concatenate([self.level, other.level], axis=-1),
            total=np.concatenate([self.total, other.total], axis=-1),
        )

    def weigh(self, view: Floats) -> tuple[Floats, Floats, Floats]:
        """Weights of atoms (L * J, n) and of shapes (J, n), given a log view by shape.

        The third is `log_total` of all.
        """
        by_shape, whole = chances(self.shape + view)
        part = by_shape.astype(np.float32)
        part /= self.total
        weight = (self.level * part).astype(np.float64)
        return weight.reshape(-1, weight.shape[-1]), by_shape, whole


def _levels(atoms: Floats) -> tuple[Floats, Singles]:
    """Greatest logarithm of each shape's levels (J, n), and exponentials below it (L, J, n).

    Likelihoods are added up in double precision; what is left after the greatest is taken away
    needs seven digits only, and exponentials of those are five times cheaper.
    """
    top = atoms.max(axis=0)
    level = np.empty(atoms.shape, dtype=np.float32)
    np.subtract(atoms, top, out=level, casting="same_kind")
    return top, np.exp(level, out=level)


def chances(joint: Floats) -> tuple[Floats, Floats]:
    """Exponentials that add up to one for each person (J, n), and log of their sum before (n,)."""
    top = joint.max(axis=0)
    chance = _exp(joint - top)
    total = chance.sum(axis=0)
    chance /= total
    return chance, top + np.log(total)


def log_view(counts: Counts, curves: Curves) -> Floats:
    """What activity and stated preference say of each shape. Shapes: (J, n)."""
    seen = curves.activity_weight * (curves.log_activity @ counts.activity.T)
    return np.asarray(seen + log_stated(counts, curves))


def weights(counts: Counts, curves: Curves) -> tuple[Floats, Floats]:
    """Posterior weights of atoms (L * J, n) and of shapes (J, n), columns adding up to one."""
    weight, by_shape, _ = Evidence.of(counts, curves).weigh(log_view(counts, curves))
    return weight, by_shape


def sweep(counts: Counts, curves: Curves, evidence: Evidence, sums: Sums) -> Floats:
    """Add what a block of people tells about the population to the sums.

    Shapes: log likelihood of everything that is known of each person (n,). State: `sums`.
    """
    n, shapes = len(counts.sent), len(curves.curve)
    seen = curves.log_activity @ counts.activity.T
    stated = log_stated(counts, curves)
    weight, by_shape, whole = evidence.weigh(curves.activity_weight * seen + stated)
    used = np.flatnonzero(counts.sent.any(axis=0))
    told = np.concatenate([counts.sent.T[used], np.ones((1, n))])
    expected = told @ weight.T  # (bins + 1, L * J)
    sums.people[0] += n
    sums.weight += expected[-1].reshape(LEVEL_COUNT, shapes)
    expected = expected[:-1]
    expected *= curves.answer_by_bin[used]
    sums.seen += by_shape @ counts.answered
    sums.expected.T[used] += expected.reshape(-1, LEVEL_COUNT, shapes).sum(axis=1)
    expected *= curves.silence_by_bin[used]
    sums.grip.T[used] += expected.reshape(-1, LEVEL_COUNT, shapes).sum(axis=1)
    sums.sent[0] += counts.sent.sum()
    sums.answered[0] += counts.answered.sum()
    who = np.flatnonzero(counts.preference >= 0)
    np.add.at(sums.preference.T, counts.preference[who], by_shape[:, who].T)
    before = curves.log_shape_share[:, None] + stated
    prior, foretold = chances(before + curves.activity_weight * seen)
    now = float(curves.share[:, EVERYONE].sum())
    sums.common_score += score_common(by_shape[EVERYONE], prior[EVERYONE], now)
    heard = counts.activity.any(axis=1)  # of the others, activity says nothing at any weight
    sums.view_score += (whole - foretold)[~heard].sum()
    if heard.any():
        sums.activity += (in_rhythm().T @ by_shape) @ counts.activity
        sums.activity_all += counts.activity.sum(axis=0)
        after = evidence.shape + stated
        sums.view_score += score_views(seen[:, heard], before[:, heard], after[:, heard])
    return whole


def score_common(after: Floats, before: Floats, now: float) -> Floats:
    """How well outcomes are foretold by each share that the population's own curve may have.

    Shapes: weight of that curve after outcomes and before them (n,); one logarithm for each of
    `COMMON_SHARES`, summed over people.
    """
    share = COMMON_SHARES[:, None]
    follows, does_not = share / now, (1.0 - share) / (1.0 - now)
    likelier = follows * after + does_not * (1.0 - after)
    likelier /= follows * before + does_not * (1.0 - before)
    return np.asarray(np.log(likelier).sum(axis=1))


def score_views(seen: Floats, before: Floats, after: Floats) -> Floats:
    """How well outcomes are foretold by activity, at each weight it may have.

    The evidence of outcomes given activity is what predicting them one after the other would
    score, and it needs only the counts.
    Shapes: log weights of shapes by activity, before and after outcomes (J, n); one logarithm for
    each of `ACTIVITY_WEIGHTS`, summed over people.
    """
    high = after.max(axis=0)
    after = _exp(after - high)
    before = _exp(before)
    scores = np.full(len(ACTIVITY_WEIGHTS), high.sum())
    for place, told in enumerate(_told(seen - seen.max(axis=0))):
        foretold = np.einsum("jn,jn->n", told, after) / np.einsum("jn,jn->n", told, before)
        scores[place] += np.log(foretold).sum()
    return scores


def _told(seen: Floats) -> Iterator[Floats]:
    """What activity says of each shape at each weight: exp(weight * seen), at least e ** _FAINT.

    Exponentials are dear, so that multiples of one are its powers.
    """
    quarter = _exp(np.maximum(0.25 * seen, _FAINT))
    half = np.maximum(quarter * quarter, _FAINTEST)
    powers = {
        0.0: np.ones(seen.shape),
        0.25: quarter,
        0.5: half,
        0.75: np.maximum(half * quarter, _FAINTEST),
        1.0: np.maximum(half * half, _FAINTEST),
    }
    for weight in ACTIVITY_WEIGHTS.tolist():
        told = powers.get(weight)
        yield _exp(np.maximum(weight * seen, _FAINT)) if told is None else told


def _exp(values: Floats) -> Floats:
    """Exponentials of single precision, for sums of double precision."""
    return np.exp(values.astype(np.float32)).astype(np.float64)


def mean_answer(weight: Floats, curves: Curves) -> Floats:
    """Expected answer by bin. Shapes: (L * J, n) to (n, 48)."""
    return np.asarray(weight.T @ curves.answer)


def spread_of_answer(weight: Floats, curves: Curves, mean: Floats) -> Floats:
    """Standard deviation of what the answer may be, over atoms. Shapes: (n, 48)."""
    return np.sqrt(np.maximum(weight.T @ curves.answer_squared - mean * mean, 0.0))
