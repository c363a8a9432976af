"""Test whether people differ in their hours, or one curve fits all.

The curve may sit at another level for each person: who responds more often at all hours makes
no cluster.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

USERS_MAX: Final = 50_000
"""People that one look takes in; of more, a sample."""

BETS: Final = 0.5 * 2.0 ** -np.arange(12)
"""Shares of the largest safe bet, mixed with equal weight."""

_FIT_ROUNDS: Final = 40
_FIT_GAIN: Final = 1e-4
_CURVE_MAX: Final = 12.0


class _Expected(NamedTuple):
    """What one curve makes expect. Shapes: both (users, hours)."""

    mean: Array
    chance: Array


def fold_week(counts: npt.ArrayLike) -> Array:
    """Add up the days of the week: (…, 168) gives (…, 24)."""
    given = np.asarray(counts, np.float64)
    folded: Array = given.reshape(*given.shape[:-1], 7, 24).sum(axis=-2)
    return folded


def cluster_log_e(sends: npt.ArrayLike, responses: npt.ArrayLike, *, seed: int = 0) -> float:
    """Natural log of the evidence, at one look, that people differ in their hours.

    Each person's responses are compared with what the common curve and the person's own total
    make expect. Summed over two waves of the day, the squares are as large as chance makes them
    where one curve fits all, and larger where some people bend it one way and some another.
    Shapes: (users, hours) each, hours from midnight, 24 of them; of very many users a sample.
    Errors: none; without responses the evidence is 0.
    Source: a score test against a mixture (Zelterman and Chen 1988, Homogeneity tests against
    central-mixture alternatives) turned into an e-value, since ln(1 + x) is at least
    x - x²/2 for x ≥ 0, and x - x² for x ≥ -1/2; what is expected is given a person's total.
    """
    n, s = np.asarray(sends, np.float64), np.asarray(responses, np.float64)
    total = s.sum(axis=1)
    users = np.flatnonzero((total > 0) & (total < n.sum(axis=1)))
    if len(users) > USERS_MAX:
        users = np.random.default_rng(seed).permutation(users)[:USERS_MAX]
    if not len(users):
        return 0.0
    n, s = n[users], s[users]
    excess, least = _excess(n, s)
    # A bet may lose half of the stake on one person at the most.
    bets = BETS / max(least, 1e-9)
    stakes = np.multiply.outer(bets, excess)
    logs = np.where(stakes >= 0, stakes - stakes**2 / 2, stakes - stakes**2).sum(axis=1)
    top = float(logs.max())
    return top + math.log(float(np.exp(logs - top).mean()))


def _excess(n: Array, s: Array) -> tuple[Array, float]:
    """By how much each person's squared waves exceed chance, and the most it can fall short."""
    waves = _waves(n.shape[1])
    mean, chance = _expect(n, s)
    total, tries = s.sum(axis=1)[:, None], n.sum(axis=1)[:, None]
    along = (s - mean) @ waves.T
    # Two approximations of the variance given the total, near at low and at high rates; of the
    # two the larger, so that what both miss does not pass for a cluster.
    rare = (tries - total) / np.maximum(tries - 1, 1) * _spread(mean, waves)
    usual = tries / np.maximum(tries - 1, 1) * _spread(mean * (1 - chance), waves)
    most = np.maximum(rare, usual).sum(axis=1)
    return (along**2).sum(axis=1) - most, float(most.max(initial=0.0))


def _spread(variance: Array, waves: Array) -> Array:
    """Variance of each wave, for independent hours that have to keep their total."""
    all_hours = np.maximum(variance.sum(axis=1), 1e-12)[:, None]
    spread: Array = variance @ (waves**2).T - (variance @ waves.T) ** 2 / all_hours
    return spread


def _waves(hours: int) -> Array:
    angle = 2 * np.pi * (np.arange(hours) % 24) / 24
    return np.stack([np.cos(angle), np.sin(angle), np.cos(2 * angle), np.sin(2 * angle)])


def _expect(n: Array, s: Array) -> _Expected:
    """The likeliest single curve of log odds, each person being at a level that fits the total.

    Steps for levels and for hours take turns; each is a safeguarded Newton step, and a division,
    since persons do not depend on each other, nor hours, once the others are held.
    """
    total, tries = s.sum(axis=1), n.sum(axis=1)
    level = np.log(total / (tries - total))
    rate = (s.sum(axis=0) + 0.5) / (n.sum(axis=0) + 1.0)
    curve = np.log(rate / (1 - rate))
    curve -= curve.mean()
    chance = _chance(level, curve)
    for _ in range(_FIT_ROUNDS):
        doubt = n * chance * (1 - chance)
        missing = total - (n * chance).sum(axis=1)
        level = level + np.clip(missing / np.maximum(doubt.sum(axis=1), 1e-9), -1.0, 1.0)
        chance = _chance(level, curve)
        doubt = n * chance * (1 - chance)
        missing = (s - n * chance).sum(axis=0)
        step = np.clip(missing / np.maximum(doubt.sum(axis=0), 0.5), -1.0, 1.0)
        curve = np.clip(curve + step, -_CURVE_MAX, _CURVE_MAX)
        chance = _chance(level, curve)
        if float(np.abs(step).max()) < _FIT_GAIN:
            break
    return _Expected(n * chance, chance)


def _chance(level: Array, curve: Array) -> Array:
    chance: Array = 1 / (1 + np.exp(-(level[:, None] + curve[None])))
    return chance


class ClusterLooks(msgspec.Struct, frozen=True):
    """What all looks so far add up to: valid however many are taken, and whenever.

    A look is worth 1/(k (k + 1)) of its e-value: the weights add up to 1, so the sum's mean is at
    most 1 for ever where there are no clusters, and it only rises.
    """

    looks: int = 0
    log_e: float = -math.inf

    def look(self, log_e: float) -> ClusterLooks:
        """Take in one more look, at any time and at the same people if need be.

        >>> ClusterLooks().look(5.0).log_e == 5.0 - math.log(2)
        True
        """
        count = self.looks + 1
        part = log_e - math.log(count * (count + 1))
        top = max(part, self.log_e)
        both = math.exp(part - top) + math.exp(self.log_e - top)
        return ClusterLooks(count, top + math.log(both))

    def exist(self, alpha: float) -> bool:
        """Tell whether there are clusters, with chance `alpha` of ever saying so wrongly."""
        return self.log_e >= math.log(1 / alpha)
