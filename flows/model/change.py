"""Who has changed, by what their own outcomes say and those of the people beside."""

from __future__ import annotations

from typing import Final

import numpy as np

from flows.model.shapes import Floats

# Shares of people that may have changed at once, which share of looks may meet such a moment, and
# how much of the hazard is left for all other looks.
_AT_ONCE: Final = (0.05, 0.1, 0.2, 0.35, 0.5, 0.7)
_MOMENTS: Final = 0.03
_ALONE: Final = 0.4

LOG_PRIOR: Final = np.log([1.0 - _MOMENTS, *[_MOMENTS / len(_AT_ONCE)] * len(_AT_ONCE)])
"""How likely each of `shares_of_change` is before anybody is looked at; logarithms."""

CERTAIN: Final = 50.0
"""Evidence beyond that counts as that."""


def shares_of_change(hazard: float) -> Floats:
    """Which shares of some people may have changed: few, each alone, or many at one moment.

    >>> shares_of_change(0.02).tolist()
    [0.008, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7]
    """
    return np.array([_ALONE * hazard, *_AT_ONCE])


def doubted_shares(hazard: float) -> Floats:
    """The same as what others are judged by: shares times a doubt of the evidence.

    Curves that fit badly make everybody look a little as if they had changed, at every look. What
    is seen always is no moment, so that the more changes were found so far, the more everybody's
    evidence has to say: it counts less by the hazard.
    """
    return np.asarray(shares_of_change(hazard) * np.exp(-hazard))


def chances_of_change(evidence: Floats, hazard: float) -> Floats:
    """How likely each of some people has changed, given evidence of it.

    People change each for themselves, or many at one moment. How many of these people have is
    averaged over a grid by how likely it makes the evidence of all of them. A share that is raised
    step by step from the hazard instead takes more steps than a look has, as one person's evidence
    is faint: many changes at once would be seen late or never.
    Shapes: log odds by each person's own outcomes (n,); chances (n,). State: none.
    Source: the marginal likelihood of a mixture whose share is unknown; grid and prior are ours,
    set in simulated worlds as docs/delivery-time.md says.

    >>> chances_of_change(np.ones(1), 0.02).round(2).tolist()
    [0.05]
    >>> chances_of_change(np.ones(100), 0.02)[:1].round(2).tolist()
    [0.86]
    """
    odds = np.exp(evidence.clip(-CERTAIN, CERTAIN))
    share, doubted = shares_of_change(hazard)[:, None], doubted_shares(hazard)[:, None]
    score = np.log(doubted * odds + 1.0 - share).sum(axis=1) + LOG_PRIOR
    plausible = np.exp(score - score.max())
    changed = share * odds
    return np.asarray(plausible / plausible.sum() @ (changed / (changed + 1.0 - share)))
