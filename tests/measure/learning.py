"""Measure what learning an outcome costs: `python -m tests.measure.learning`.

The delivery-time model and River's logistic regression learn the same outcomes in turns, in one
process and CPU time; one JSON line for each stretch of outcomes. The regression is measured bare,
behind a scaler, and as the policy that a campaign may choose, which does the model's job with it.
Set OMP_NUM_THREADS=1 and OPENBLAS_NUM_THREADS=1. Nothing is asserted: machines differ.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any

import numpy as np
from river import linear_model, preprocessing

from flows.model import DeliveryTimeModel
from flows.model.alternatives import PolicyName, make_policy
from flows.model.kernel import Kernel
from flows.model.shapes import BIN_OF_SLOT
from flows.timing.learners import find_kernel
from flows.timing_bench.play import draw_allowed
from flows.timing_bench.worlds import WORLDS, make_crowd


def features(person: int, slot: int) -> dict[str, float]:
    """What a regression needs at the least: the bin, and whether the person is a late riser."""
    return {f"bin{BIN_OF_SLOT[slot]}": 1.0, "weekend": float(slot >= 120), "late": person % 7 / 7.0}


def measure(
    *, people: int, block: int, sends: int, stretch: int, seed: int, kernel: Kernel | None
) -> None:
    """Learn `sends` outcomes a person, and print the cost of each `stretch` of them."""
    crowd = make_crowd(WORLDS["medium"], people=people, seed=seed)
    rng = np.random.default_rng(seed)
    names = np.array([f"usr_{number}" for number in range(people)])
    ours = DeliveryTimeModel(seed=seed, kernel=kernel)
    plain: Any = linear_model.LogisticRegression()
    scaled: Any = preprocessing.StandardScaler() | linear_model.LogisticRegression()
    policy = make_policy(PolicyName.LOGISTIC, seed=seed, people_max=people)
    spent = {"ours": 0.0, "logistic": 0.0, "scaled": 0.0, "policy": 0.0, "decide": 0.0}
    taught = decided = told = 0
    for number in range(people * sends // block):
        who = rng.integers(0, people, block)
        allowed = draw_allowed(block, number % 7, rng)
        slots = np.where(allowed, rng.random(allowed.shape), -1.0).argmax(axis=1)
        answered = rng.random(block) < crowd.answer[who, slots]
        users = names[who].tolist()
        start = time.process_time()
        ours.learn(users, slots, answered)
        spent["ours"] += time.process_time() - start
        told += block
        if number % 10 == 0:
            start = time.process_time()
            ours.decide(users, allowed, keys=range(block))
            spent["decide"] += time.process_time() - start
            decided += block
            rows = [features(*pair) for pair in zip(who.tolist(), slots.tolist(), strict=True)]
            for name, model in (("logistic", plain), ("scaled", scaled)):
                start = time.process_time()
                for row, outcome in zip(rows, answered.tolist(), strict=True):
                    model.learn_one(row, outcome)
                spent[name] += time.process_time() - start
            start = time.process_time()
            policy.learn(users, slots, answered)
            spent["policy"] += time.process_time() - start
            taught += block
        if told == people * stretch:
            counts = {"ours": told, "decide": decided}
            micros = {
                name: round(seconds / counts.get(name, taught) * 1e6, 2)
                for name, seconds in spent.items()
            }
            say(
                sends_a_person=ours.learned // people,
                people=people,
                steps=ours.curves.step,
                **micros,
            )
            spent = dict.fromkeys(spent, 0.0)
            taught = decided = told = 0


def say(**figures: Any) -> None:
    sys.stdout.write(json.dumps({"figure": "cost_us", **figures}) + "\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.measure.learning", description=__doc__)
    parser.add_argument("--people", type=int, default=2_000)
    parser.add_argument("--block", type=int, default=1_000)
    parser.add_argument("--sends", type=int, default=150)
    parser.add_argument("--stretch", type=int, default=50)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--level", choices=("pure", "native"), default="pure")
    options = parser.parse_args()
    measure(
        people=options.people,
        block=options.block,
        sends=options.sends,
        stretch=options.stretch,
        seed=options.seed,
        kernel=find_kernel(options.level),
    )


if __name__ == "__main__":
    main()
