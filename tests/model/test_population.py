"""What sums over people make of the population: how common rhythms are, and what activity tells."""

from __future__ import annotations

import numpy as np

from flows.model.population import ACTIVITY_WEIGHTS, Curves, Sums, first_curves, next_curves
from flows.model.shapes import EVERYONE, LEVEL_COUNT, STRENGTH_COUNT, Floats

STRONG = 24  # a bump of the second strength
PEOPLE = 100_000.0  # so many that priors hardly tell


def told(weight: Floats) -> Sums:
    """Sums of many people who weigh atoms so."""
    sums = Sums.zero()
    sums.weight += PEOPLE * weight / weight.sum()
    return sums


def of_shape(curves: Curves, shape: int) -> float:
    """Share of a shape among those that are not the population's own."""
    by_shape = curves.share.sum(axis=0)
    return float(by_shape[shape] / by_shape[EVERYONE + 1 :].sum())


def test_shares_move_further_than_weights_say_and_come_to_rest_at_them() -> None:
    now = first_curves()
    weight = now.share.copy()
    weight[:, STRONG] *= 2.0
    start = of_shape(now, STRONG)
    target = float(weight[:, STRONG].sum() / weight[:, EVERYONE + 1 :].sum())

    first = next_curves(now, told(weight))
    last = first
    for _ in range(30):  # old sums, again and again, as of a shard that publishes rarely
        last = next_curves(last, told(weight))

    assert of_shape(first, STRONG) - start > 1.2 * (target - start)
    assert np.isclose(target, of_shape(last, STRONG), rtol=0.02)


def test_what_few_people_show_of_one_strength_is_believed_of_the_other() -> None:
    now = first_curves()
    sums = Sums.zero()
    sums.weight += 100.0 * now.share
    sums.weight[LEVEL_COUNT // 2, STRONG] += 20.0
    bumps = (len(now.curve) - 5) // STRENGTH_COUNT
    other, before = STRONG - bumps, of_shape(now, STRONG - bumps)

    assert of_shape(next_curves(now, sums), other) > 1.1 * before


def test_activity_never_tells_more_than_independent_signs_would() -> None:
    sums = Sums.zero()
    sums.view_score += 1_000.0 * ACTIVITY_WEIGHTS

    assert np.isclose(1.0, next_curves(first_curves(), sums).activity_weight)
