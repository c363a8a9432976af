"""What is believed of people, from their counts and the population's curves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flows.model.people import People, Rows
from flows.model.population import ACTIVITY_WEIGHTS, Curves, Sums
from flows.model.shapes import BINS, HOURS, LEVEL_COUNT, Floats, in_rhythm


@dataclass(frozen=True, kw_only=True, eq=False)
class Counts:
    """Counts of a block of people in double precision. Shapes: one row a person."""

    sent: Floats  # (n, 48), all windows
    answered: Floats
    activity: Floats  # (n, 24)
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
            activity=np.zeros((n, HOURS)),
            preference=np.full(n, -1),
        )


def log_response(counts: Counts, curves: Curves) -> Floats:
    """Log likelihood of outcomes under each atom. Shapes: (n, L * J)."""
    return counts.answered @ curves.log_odds + counts.sent @ curves.log_silence


def log_stated(counts: Counts, curves: Curves) -> Floats:
    """Log likelihood of stated preferences under each shape. Shapes: (n, J)."""
    table = np.vstack([curves.log_preference.T, np.zeros(len(curves.curve))])
    return np.asarray(table[counts.preference])


@dataclass(frozen=True, kw_only=True, eq=False)
class Evidence:
    """What counts say, split by shape, so that views can be weighed without the levels.

    Shapes: `shape` (n, J) log share times likelihood of outcomes; `level` (n, L, J) weight of
    levels inside each shape, adding up to one.
    """

    shape: Floats
    level: Floats

    @classmethod
    def of(cls, counts: Counts, curves: Curves) -> Evidence:
        """Weigh outcomes against every atom."""
        atoms = log_response(counts, curves)
        atoms += curves.log_share
        level = atoms.reshape(len(atoms), LEVEL_COUNT, -1)
        top = level.max(axis=1)
        level -= top[:, None]
        np.exp(level, out=level)
        total = level.sum(axis=1)
        level /= total[:, None]
        return cls(shape=top + np.log(total), level=level)

    def weigh(self, view: Floats) -> tuple[Floats, Floats]:
        """Weights of atoms (n, L * J) and of shapes (n, J), given a log view by shape."""
        joint = self.shape + view
        by_shape = np.exp(joint - log_total(joint)[:, None])
        return (self.level * by_shape[:, None]).reshape(len(joint), -1), by_shape


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


def sweep(counts: Counts, curves: Curves) -> Sums:
    """Add up what a block of people tells about the population. State: none."""
    sums = Sums.zero()
    n, shapes = len(counts.sent), len(curves.curve)
    evidence = Evidence.of(counts, curves)
    weight, by_shape = evidence.weigh(log_view(counts, curves))
    sent = (weight.T @ counts.sent).reshape(LEVEL_COUNT, shapes, BINS)
    answer = curves.answer.reshape(LEVEL_COUNT, shapes, BINS)
    expected = sent * answer
    sums.people[0] = n
    sums.weight[:] = weight.sum(axis=0).reshape(LEVEL_COUNT, shapes)
    sums.pull[:] = by_shape.T @ counts.answered - expected.sum(axis=0)
    sums.grip[:] = (expected * (1.0 - answer)).sum(axis=0)
    sums.sent[0], sums.answered[0] = counts.sent.sum(), counts.answered.sum()
    sums.activity[:] = (by_shape @ in_rhythm()).T @ counts.activity
    sums.activity_all[:] = counts.activity.sum(axis=0)
    stated = np.flatnonzero(counts.preference >= 0)
    np.add.at(sums.preference.T, counts.preference[stated], by_shape[stated])
    sums.view_score[:] = score_views(counts, curves, evidence)
    return sums


def score_views(counts: Counts, curves: Curves, evidence: Evidence) -> Floats:
    """How well outcomes are foretold by activity, at each weight it may have.

    The evidence of outcomes given activity is what predicting them one after the other would
    score, and it needs only the counts.
    Shapes: one logarithm for each of `ACTIVITY_WEIGHTS`, summed over people.
    """
    seen = counts.activity @ curves.log_activity.T
    stated = log_stated(counts, curves)
    prior = curves.log_shape_share + stated
    after = evidence.shape + stated
    scores = [
        (log_total(after + weight * seen) - log_total(prior + weight * seen)).sum()
        for weight in ACTIVITY_WEIGHTS
    ]
    return np.array(scores)


def mean_answer(weight: Floats, curves: Curves) -> Floats:
    """Expected answer by bin. Shapes: (n, L * J) to (n, 48)."""
    return weight @ curves.answer


def spread_of_answer(weight: Floats, curves: Curves, mean: Floats) -> Floats:
    """Standard deviation of what the answer may be, over atoms. Shapes: (n, 48)."""
    square = weight @ (curves.answer * curves.answer)
    return np.sqrt(np.maximum(square - mean * mean, 0.0))
