"""Who is taken to have changed, by what their own outcomes say and those of the people beside."""

from __future__ import annotations

import numpy as np
import pytest

from flows.model.change import chances_of_change
from flows.model.delivery_time import DeliveryTimeModel
from flows.model.shapes import SLOTS, Floats

HAZARD = 0.02
CLEAR = 1.0  # how far apart the evidence of those who changed and of the others lies


def evidence(changed: int, people: int, seed: int) -> Floats:
    """Log odds that mean what they say; those who changed come first."""
    rng = np.random.default_rng(seed)
    middle = np.where(np.arange(people) < changed, 0.5, -0.5) * CLEAR**2
    return np.asarray(rng.normal(middle, CLEAR))


def test_whoever_changed_is_told_from_others_by_how_many_did() -> None:
    """The same doubtful evidence counts for more at a moment at which many change."""
    alone = chances_of_change(np.ones(1), HAZARD)[0]
    amid_many = chances_of_change(np.append(1.0, evidence(60, 120, 1)), HAZARD)[0]
    amid_none = chances_of_change(np.append(1.0, evidence(0, 120, 1)), HAZARD)[0]

    assert amid_none < alone < amid_many
    assert amid_none < 0.1
    assert amid_many > 0.5


@pytest.mark.parametrize("changed", [0, 50, 65, 84])
def test_about_as_many_are_taken_to_have_changed_as_did(changed: int) -> None:
    """Also where each one's evidence is faint: three in ten look as if they had done the other."""
    found = [chances_of_change(evidence(changed, 120, seed), HAZARD).sum() for seed in range(50)]

    assert abs(float(np.mean(found)) - changed) < 10


def test_chances_depend_on_who_is_looked_at_not_on_the_order() -> None:
    told = evidence(30, 120, 2)
    turned = chances_of_change(told[::-1], HAZARD)[::-1]

    assert np.allclose(chances_of_change(told, HAZARD), turned, rtol=0, atol=1e-12)


def test_evidence_without_bounds_gives_chances() -> None:
    found = chances_of_change(np.array([-1e4, 1e4]), HAZARD)

    assert np.allclose([0.0, 1.0], found, rtol=0, atol=1e-12)


def test_where_nobody_changes_hardly_anybody_is_taken_to_have() -> None:
    """Answers that no curve fits well make all look a little as if they had changed, always."""
    model, rng = DeliveryTimeModel(seed=1), np.random.default_rng(1)
    names = [f"usr_{number}" for number in range(300)]
    for _ in range(40):
        slots = rng.integers(0, SLOTS, len(names))
        morning = np.abs(slots % 24 - 9) < 3
        model.learn(names, slots, rng.random(len(names)) < np.where(morning, 0.6, 0.1))
    changed, looked = model.population().sums.changes

    assert looked > 1_000
    assert changed < 0.08 * looked
