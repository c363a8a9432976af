"""Compare delivery slots with each other, by the odds at which each pick was drawn.

Every pick is randomised anew with known odds, so the test is exact: people may differ, the model
may learn and the odds may change from pick to pick. State is three sums a bin of slots.
"""

from __future__ import annotations

import math
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

SLOTS: Final = 168
WEEKEND: Final = 5 * 24

BETS: Final = np.array([sign * 0.05 * 2.0**step for sign in (1, -1) for step in range(6)])
"""Mixed with equal weight; ±0.05 is quick for large samples, ±1.6 for large effects."""


def day_parts() -> npt.NDArray[np.intp]:
    """The usual bins: three hours each, working days and weekends apart; (168,) numbers below 16.

    >>> day_parts()[[0, 23, 24, 120, 167]].tolist()
    [0, 7, 0, 8, 15]
    """
    hours = np.arange(SLOTS)
    return hours % 24 // 3 + 8 * (hours >= WEEKEND)


def bin_odds(odds: npt.ArrayLike, bins: npt.NDArray[np.intp]) -> Array:
    """The odds of each bin, from those of its slots. Shapes: (n, 168) gives (n, bins)."""
    given = np.asarray(odds, np.float64)
    members: Array = np.equal.outer(bins, np.arange(int(bins.max()) + 1)).astype(np.float64)
    found: Array = given @ members
    return found


def slot_sums(
    picked: npt.ArrayLike,
    odds: npt.ArrayLike,
    responded: npt.ArrayLike,
    expected: npt.ArrayLike = 0.1,
) -> Array:
    """Sums over picks whose outcome is known; those of lanes and blocks are added up.

    `expected` is any guess of the response made before the pick was drawn and without regard to
    it, such as the score's mean over the odds: a good one makes the test quicker, a bad one does
    not make it wrong.
    Shapes: `picked` (n,) are bins, `odds` (n, bins) sum to 1, `expected` is one number or (n,).
    Units: `responded` and `expected` within 0 and 1. Gives (3, bins): gain, spread, weight.
    """
    chances = np.clip(np.asarray(odds, np.float64), 0.0, 1.0)
    surprise = np.asarray(responded, np.float64) - np.asarray(expected, np.float64)
    taken = np.equal.outer(np.asarray(picked, np.intp), np.arange(chances.shape[1]))
    doubt = chances * (1 - chances)
    gain = surprise @ (taken - chances)
    return np.stack([gain, (surprise * surprise) @ doubt, doubt.sum(axis=0)])


class SlotFinding(msgspec.Struct, frozen=True):
    """What is known of one bin against all others together.

    Units: `lift` is a difference of response rates, weighted towards picks that could have gone
    either way; `error` is its standard error.
    """

    bin: int
    lift: float
    error: float
    log_e: float
    found: bool


def slot_log_e(sums: Array) -> Array:
    """Natural log of the evidence, bin by bin, that its response differs from the others'.

    Shapes: (3, bins) gives (bins,).
    Source: the sub-Poisson (Bennett) supermartingale of Howard et al. (2021), Time-uniform,
    nonparametric, nonasymptotic confidence sequences, mixed over `BETS`; the gain that it bets on
    is ours: the response above what was expected, times the pick above its odds, whose mean is 0
    where slots are alike.
    """
    gain, spread = sums[0], sums[1]
    size = np.abs(BETS)
    cost = np.expm1(size) - size
    logs = np.multiply.outer(BETS, gain) - np.multiply.outer(cost, spread)
    top = logs.max(axis=0)
    mixed: Array = top + np.log(np.exp(logs - top).mean(axis=0))
    return mixed


def any_slot_log_e(sums: Array) -> float:
    """Natural log of the evidence that any slot differs.

    The mean of e-values is one itself, however the bins hang together.
    """
    logs = slot_log_e(sums)
    top = float(logs.max())
    return top + math.log(float(np.exp(logs - top).mean()))


def discoveries(log_e: Any, alpha: float) -> npt.NDArray[np.bool_]:
    """Which of many hypotheses are rejected, with a false share of at most `alpha` on average.

    Source: e-BH, Wang and Ramdas (2022), False discovery rate control with e-values.

    >>> import numpy as np
    >>> discoveries(np.log([100.0, 1.0, 35.0, 0.1]), alpha=0.1).tolist()
    [True, False, True, False]
    """
    logs = np.asarray(log_e, np.float64)
    ranked = np.sort(logs)[::-1]
    ranks = np.arange(1, len(logs) + 1)
    passed = np.flatnonzero(ranked + np.log(ranks / len(logs)) >= math.log(1 / alpha))
    if not len(passed):
        return np.zeros(len(logs), np.bool_)
    rejected: npt.NDArray[np.bool_] = logs >= ranked[passed[-1]]
    return rejected


def judge_slots(sums: Array, alpha: float) -> list[SlotFinding]:
    """What is known of every bin, with the many bins accounted for."""
    logs = slot_log_e(sums)
    found = discoveries(logs, alpha)
    weight = np.where(sums[2] > 0, sums[2], np.inf)
    lift, error = sums[0] / weight, np.sqrt(sums[1]) / weight
    return [
        SlotFinding(number, float(lift[number]), float(error[number]), float(log), bool(hit))
        for number, (log, hit) in enumerate(zip(logs, found, strict=True))
    ]
