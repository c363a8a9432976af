"""What is believed of people, from their counts and the population's curves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from flows.model.people import People, Rows
from flows.model.population import ACTIVITY_WEIGHTS, COMMON_SHARES, Curves, Sums
from flows.model.shapes import BINS, EVERYONE, LEVEL_COUNT, Floats, in_rhythm

Singles = NDArray[np.float32]
# Logarithm of what is left of a shape that activity speaks against, in single precision.
_FAINT: Final = np.float32(-80.0)


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

    @classmethod
    def nobody(cls, n: int) -> Counts:
        """Counts of people of whom nothing is known."""
        return cls(
            sent=np.zeros((n, BINS)),
            answered=np.zeros((n, BINS)),
            activity=np.zeros((n, BINS)),
            preference=np.full(n, -1),
        )


def log_response(counts: Counts, curves: Curves) -> Floats:
    """Log likelihood of outcomes times share of each atom. Shapes: (n, L, J).

    The answers' part splits into level and shape, so only the silences need a product by atom.
    """
    n = len(counts.sent)
    answers = counts.answered.sum(axis=1, keepdims=True)
    told = np.concatenate([counts.sent, answers, np.ones((n, 1))], axis=1)
    atoms = (told @ curves.log_tables).reshape(n, LEVEL_COUNT, -1)
    atoms += (counts.answered @ curves.curve.T)[:, None]
    return atoms


def log_stated(counts: Counts, curves: Curves) -> Floats:
    """Log likelihood of stated preferences under each shape. Shapes: (n, J)."""
    table = np.vstack([curves.log_preference.T, np.zeros(len(curves.curve))])
    return np.asarray(table[counts.preference])


@dataclass(frozen=True, eq=False)
class Evidence:
    """What counts say, split by shape, so that views can be weighed without the levels.

    Shapes: `shape` (n, J) log share times likelihood of outcomes; `level` (n, L, J) weight of
    levels inside each shape, adding up to `total` (n, J), in single precision.
    """

    shape: Floats
    level: Singles
    total: Floats

    @classmethod
    def of(cls, counts: Counts, curves: Curves) -> Evidence:
        """Weigh outcomes against every atom."""
        atoms = log_response(counts, curves)
        top = atoms.max(axis=1)
        # Likelihoods are added up in double precision; what is left after the greatest is taken
        # away needs seven digits only, and exponentials of those are five times cheaper.
        level = np.empty(atoms.shape, dtype=np.float32)
        np.subtract(atoms, top[:, None], out=level, casting="same_kind")
        np.exp(level, out=level)
        total = level.sum(axis=1).astype(np.float64)
        return cls(shape=top + np.log(total), level=level, total=total)

    def weigh(self, view: Floats) -> tuple[Floats, Floats]:
        """Weights of atoms (n, L * J) and of shapes (n, J), given a log view by shape."""
        joint = self.shape + view
        by_shape = np.exp(joint - joint.max(axis=1, keepdims=True))
        by_shape /= by_shape.sum(axis=1, keepdims=True)
        weight = self.level * (by_shape / self.total)[:, None]
        return weight.reshape(len(joint), -1), by_shape


def log_view(counts: Counts, curves: Curves) -> Floats:
    """What activity and stated preference say of each shape. Shapes: (n, J)."""
    seen = curves.activity_weight * (counts.activity @ curves.log_activity.T)
    return np.asarray(seen + log_stated(counts, curves))


def weights(counts: Counts, curves: Curves) -> tuple[Floats, Floats]:
    """Posterior weights of atoms (n, L * J) and of shapes (n, J), rows adding up to one."""
    return Evidence.of(counts, curves).weigh(log_view(counts, curves))


def log_total(joint: Floats) -> Floats:
    """Log of the sum of each row's exponentials. Shapes: (n,)."""
    top = joint.max(axis=1)
    return np.asarray(top + np.log(np.exp(joint - top[:, None]).sum(axis=1)))


def sweep(counts: Counts, curves: Curves, evidence: Evidence, sums: Sums) -> None:
    """Add what a block of people tells about the population to the sums. State: `sums`."""
    n, shapes = len(counts.sent), len(curves.curve)
    seen = counts.activity @ curves.log_activity.T
    stated = log_stated(counts, curves)
    weight, by_shape = evidence.weigh(curves.activity_weight * seen + stated)
    sent = (weight.T @ counts.sent).reshape(LEVEL_COUNT, shapes, BINS)
    answer = curves.answer.reshape(LEVEL_COUNT, shapes, BINS)
    expected = sent * answer
    sums.people[0] += n
    sums.weight += weight.sum(axis=0).reshape(LEVEL_COUNT, shapes)
    sums.seen += by_shape.T @ counts.answered
    sums.expected += expected.sum(axis=0)
    sums.grip += (expected * (1.0 - answer)).sum(axis=0)
    sums.sent[0] += counts.sent.sum()
    sums.answered[0] += counts.answered.sum()
    sums.activity += (by_shape @ in_rhythm()).T @ counts.activity
    sums.activity_all += counts.activity.sum(axis=0)
    who = np.flatnonzero(counts.preference >= 0)
    np.add.at(sums.preference.T, counts.preference[who], by_shape[who])
    before = curves.log_shape_share + curves.activity_weight * seen + stated
    now = float(curves.share[:, EVERYONE].sum())
    sums.common_score += score_common(by_shape[:, EVERYONE], before, now)
    sums.view_score += score_views(seen, curves.log_shape_share + stated, evidence.shape + stated)


def score_common(after: Floats, before: Floats, now: float) -> Floats:
    """How well outcomes are foretold by each share that the population's own curve may have.

    Shapes: weight of that curve after outcomes (n,), log weights of shapes before them (n, J); one
    logarithm for each of `COMMON_SHARES`, summed over people.
    """
    before = np.exp(before - before.max(axis=1, keepdims=True))
    prior = before[:, EVERYONE] / before.sum(axis=1)
    share = COMMON_SHARES[:, None]
    follows, does_not = share / now, (1.0 - share) / (1.0 - now)
    score = np.log(follows * after + does_not * (1.0 - after))
    score -= np.log(follows * prior + does_not * (1.0 - prior))
    return np.asarray(score.sum(axis=1))


def score_views(seen: Floats, before: Floats, after: Floats) -> Floats:
    """How well outcomes are foretold by activity, at each weight it may have.

    The evidence of outcomes given activity is what predicting them one after the other would
    score, and it needs only the counts.
    Shapes: log weights of shapes by activity, before and after outcomes (n, J); one logarithm for
    each of `ACTIVITY_WEIGHTS`, summed over people.
    """
    high = after.max(axis=1, keepdims=True)
    after = np.exp(after - high)
    before = np.exp(before)
    seen = (seen - seen.max(axis=1, keepdims=True)).astype(np.float32)
    scores = []
    for weight in ACTIVITY_WEIGHTS.astype(np.float32):
        told = np.exp(np.maximum(weight * seen, _FAINT)).astype(np.float64)
        foretold = np.einsum("nj,nj->n", told, after) / np.einsum("nj,nj->n", told, before)
        scores.append(np.log(foretold).sum())
    return np.asarray(np.array(scores) + high.sum())


def mean_answer(weight: Floats, curves: Curves) -> Floats:
    """Expected answer by bin. Shapes: (n, L * J) to (n, 48)."""
    return weight @ curves.answer


def spread_of_answer(weight: Floats, curves: Curves, mean: Floats) -> Floats:
    """Standard deviation of what the answer may be, over atoms. Shapes: (n, 48)."""
    square = weight @ (curves.answer * curves.answer)
    return np.sqrt(np.maximum(square - mean * mean, 0.0))
