"""River's policies behind the model's interface."""

from __future__ import annotations

import numpy as np
import pytest

from flows.model.alternatives import PolicyName, make_policy

HOUR = np.arange(168) % 24
WAKING = (HOUR >= 7) & (HOUR <= 21)


@pytest.mark.parametrize("name", PolicyName)
def test_each_policy_learns_the_evening_and_tells_its_odds(name: PolicyName) -> None:
    policy = make_policy(name, seed=1, people_max=100)
    rng = np.random.default_rng(2)
    users = [f"usr_{number % 20}" for number in range(1_500)]
    hours = rng.integers(7, 22, len(users))
    policy.learn(users, hours, rng.random(len(users)) < np.where(hours >= 18, 0.6, 0.05))

    slots, propensities = policy.decide(users[:20], np.repeat(WAKING[None], 20, 0), keys=range(20))

    assert np.mean(slots % 24 >= 18) > 0.8
    assert ((propensities > 0) & (propensities <= 1)).all()


@pytest.mark.parametrize("name", PolicyName)
def test_a_repeat_decides_the_same(name: PolicyName) -> None:
    drawn = []
    for _ in range(2):
        policy = make_policy(name, seed=1, people_max=100)
        policy.observe_activity(["usr_ada"], np.array([20]))
        policy.learn(["usr_ada"], np.array([20]), np.array([True]))
        drawn.append(policy.decide(["usr_ada"], WAKING[None], keys=["ntf_1"])[0].tolist())

    assert drawn[0] == drawn[1]
