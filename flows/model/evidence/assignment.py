"""Check at any time that subjects are split as they were meant to be."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

CONCENTRATIONS: Final = (100.0, 1_000.0, 10_000.0)
"""How near to the planned shares the alternatives lie: the mixture looks far off and close by."""

ALPHA: Final = 0.01
"""Chance of ever calling a right split wrong; lower than usual, since it stops every verdict."""


def split_log_e(counts: Sequence[int], shares: Sequence[float]) -> float:
    """Natural log of the evidence against the planned shares, from counts of subjects.

    Exact, not asymptotic, under any number of looks: while each new subject is drawn by the
    shares, the chance of ever passing log(1/alpha) is at most alpha.
    Shapes: one count and one positive share for each arm; shares add up to 1.
    Source: Lindon and Malek (2020), Anytime-valid inference for multinomial count data, with
    three Dirichlet priors around the planned shares, mixed.

    >>> split_log_e([900, 100], [0.9, 0.1]) < 0 < split_log_e([800, 200], [0.9, 0.1])
    True
    """
    logs = [_one_log_e(counts, shares, strength) for strength in CONCENTRATIONS]
    top = max(logs)
    return top + math.log(sum(math.exp(log - top) for log in logs) / len(logs))


def _one_log_e(counts: Sequence[int], shares: Sequence[float], strength: float) -> float:
    """The marginal likelihood under a Dirichlet prior, over the likelihood of the shares."""
    total = sum(counts)
    found = math.lgamma(strength) - math.lgamma(strength + total)
    for count, share in zip(counts, shares, strict=True):
        prior = strength * share
        found += math.lgamma(prior + count) - math.lgamma(prior) - count * math.log(share)
    return found


def is_split_wrong(log_e: float, alpha: float = ALPHA) -> bool:
    """Tell whether the split is proven wrong, so that no verdict may be trusted."""
    return log_e >= math.log(1 / alpha)
