"""Which online clusterer finds the chronotypes that a simulated crowd was drawn from."""

from __future__ import annotations

import numpy as np
from river import metrics

from flows.model import DeliveryTimeModel
from flows.model.clusters import CLUSTERERS, rhythm
from flows.model.shapes import FLAT, in_rhythm
from flows.timing_bench.worlds import DAY, WORLDS, make_crowd

OURS = "delivery-time"


def agreement(*, world: str, people: int, activities: int, seed: int) -> dict[str, float]:
    """Adjusted Rand index of each clusterer with the types, from activity alone.

    One pass to learn and one to assign; 1 is perfect and 0 is luck.
    """
    crowd = make_crowd(WORLDS[world], people=people, seed=seed)
    rng = np.random.default_rng([seed, 3])
    by_hour = crowd.activity.reshape(people, 7, DAY).sum(axis=1)
    by_hour /= by_hour.sum(axis=1, keepdims=True)
    counts = rng.multinomial(activities, by_hour).astype(np.float64)
    found = {OURS: _ours(counts)}
    for name, make in CLUSTERERS.items():
        clusterer = make(seed)
        points = [rhythm(row) for row in counts]
        for point in points:
            clusterer.learn_one(point)
        found[name] = [int(clusterer.predict_one(point)) for point in points]
    return {name: _rand(crowd.types.tolist(), labels) for name, labels in found.items()}


def _ours(counts: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> list[int]:
    """The rhythm with the greatest weight, after a few sweeps over activity."""
    model = DeliveryTimeModel(seed=0)
    names = [f"usr_{number}" for number in range(len(counts))]
    for name, row in zip(names, counts.astype(int), strict=True):
        hours = np.repeat(np.arange(DAY), row)
        model.observe_activity([name] * len(hours), hours)
    for _ in range(8):
        model.update_population()
    rhythms = [model.posterior(name).shapes @ in_rhythm() for name in names]
    return [int(weight[FLAT + 1 :].argmax()) for weight in rhythms]


def _rand(truth: list[int], labels: list[int]) -> float:
    score = metrics.AdjustedRand()
    for one, other in zip(truth, labels, strict=True):
        score.update(one, other)
    return float(score.get())
