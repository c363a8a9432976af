"""Compare online clusterers of people's rhythms: `python -m tests.measure.clusters`.

Seeded; one JSON line for each world, number of activities and way. `search` draws settings of each
of River's clusterers and of the map that it gets, on seeds of their own, and moves to better
neighbours. Nothing is asserted here.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

import numpy as np
from river import cluster, preprocessing

from flows.model.clusters import RhythmClusters
from flows.model.shapes import HOURS, Floats, smoother
from flows.timing_bench.worlds import Ints
from tests.measure.clusters_town import (
    NEWCOMERS,
    RESIDENTS,
    Town,
    active_hours,
    agreement,
    answered_hours,
    best_waking,
    by_hour,
    by_type,
    make_town,
    our_hours,
    our_labels,
    ours,
    regret,
)

TUNED_ON: Final = (100, 101, 102)
ACTIVITIES: Final = (20, 50, 100)
_T_95: Final = {3: 4.303, 5: 2.776}  # of two sides, by the number of seeds

_MAPS: Final = ("harmonics", "roots", "shares")
_DETAIL: Final = {"harmonics": (2, 3, 4), "roots": (1, 2, 3), "shares": (1, 2, 3)}
_PRIOR: Final = {
    "harmonics": (0.0, 2.0, 5.0),
    "roots": (1.0, 5.0, 12.0),
    "shares": (2.0, 5.0, 10.0),
}
_COUNT: Final = (4, 5, 6, 8, 12)
_SIGMA: Final = (0.1, 0.3, 0.6, 1.0)
CHOICES: Final[dict[str, dict[str, Sequence[float]]]] = {
    "KMeans": {"n_clusters": _COUNT, "halflife": (0.01, 0.02, 0.05, 0.1, 0.2), "sigma": _SIGMA},
    "STREAMKMeans": {
        "n_clusters": _COUNT,
        "chunk_size": (20, 50, 100, 200),
        "halflife": (0.05, 0.1, 0.2, 0.5),
        "sigma": _SIGMA,
    },
    "DBSTREAM": {
        "clustering_threshold": (0.5, 0.7, 1.0, 1.4, 2.0),
        "fading_factor": (0.0001, 0.001, 0.01),
        "cleanup_interval": (20, 50, 200),
        "intersection_factor": (0.1, 0.2, 0.3, 0.5),
        "minimum_weight": (1.0, 3.0, 6.0, 12.0),
    },
    "CluStream": {
        "n_macro_clusters": _COUNT,
        "max_micro_clusters": (15, 30, 60),
        "micro_cluster_r_factor": (1, 2, 3),
        "time_gap": (50, 100, 200),
        "time_window": (300, 1_000, 5_000),
        "halflife": (0.1, 0.2, 0.5),
        "sigma": _SIGMA,
    },
}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A clusterer, its settings and the map of activity by hour that it gets.

    `detail` is the number of harmonics, or the width of the kernel in hours; `prior` the number of
    activities of an even day that are added to each person's.
    """

    clusterer: str
    kind: str
    detail: int
    prior: float
    centred: bool
    passes: int
    settings: dict[str, float] = field(default_factory=dict)


# What `search` found so far.
FOUND: Final = (
    Recipe(
        clusterer="KMeans",
        kind="harmonics",
        detail=3,
        prior=0.0,
        centred=True,
        passes=1,
        settings={"n_clusters": 6, "halflife": 0.1, "sigma": 0.6},
    ),
    Recipe(
        clusterer="STREAMKMeans",
        kind="harmonics",
        detail=3,
        prior=2.0,
        centred=True,
        passes=1,
        settings={"n_clusters": 6, "chunk_size": 200, "halflife": 0.2, "sigma": 0.1},
    ),
    Recipe(
        clusterer="DBSTREAM",
        kind="harmonics",
        detail=3,
        prior=5.0,
        centred=True,
        passes=1,
        settings={
            "clustering_threshold": 1.0,
            "fading_factor": 0.01,
            "cleanup_interval": 50,
            "intersection_factor": 0.5,
            "minimum_weight": 12.0,
        },
    ),
    Recipe(
        clusterer="CluStream",
        kind="shares",
        detail=1,
        prior=10.0,
        centred=True,
        passes=1,
        settings={
            "n_macro_clusters": 6,
            "max_micro_clusters": 60,
            "micro_cluster_r_factor": 2,
            "time_gap": 200,
            "time_window": 1_000,
            "halflife": 0.2,
            "sigma": 0.1,
        },
    ),
)


def points(counts: Floats, recipe: Recipe) -> Floats:
    """Activity by hour as points, scaled so that people lie about one apart. Shapes: (n, 24)."""
    hour = np.arange(HOURS)
    total = counts.sum(axis=1, keepdims=True) + recipe.prior
    if recipe.kind == "harmonics":
        angle = 2 * np.pi * np.outer(hour, np.arange(1, recipe.detail + 1)) / HOURS
        waves = np.concatenate([np.cos(angle), np.sin(angle)], axis=1)
        return np.asarray(3.0 * counts @ waves / np.maximum(total, 1.0))
    kernel = smoother() ** (1.0 / recipe.detail**2)
    kernel /= kernel.sum(axis=1, keepdims=True)
    share = (counts @ kernel + recipe.prior / HOURS) / np.maximum(total, 1.0)
    if recipe.kind == "roots":
        return np.asarray(10.0 * (np.sqrt(share) - np.sqrt(1.0 / HOURS)))
    return np.asarray(30.0 * (share - 1.0 / HOURS))


def labels_of(recipe: Recipe, town: Town, seed: int) -> tuple[Ints, Ints]:
    """Learn the residents, then assign them and the newcomers."""
    settings: dict[str, Any] = dict(recipe.settings)
    if recipe.clusterer != "DBSTREAM":
        settings["seed"] = seed
    clusterer = getattr(cluster, recipe.clusterer)(**settings)
    mean = preprocessing.StandardScaler(with_std=False)
    here, there = (
        [dict(enumerate(row)) for row in points(by_hour(counts), recipe).tolist()]
        for counts in (town.activity, town.seen)
    )
    for point in here * recipe.passes:
        if recipe.centred:
            mean.learn_one(point)
        clusterer.learn_one(mean.transform_one(point) if recipe.centred else point)
    found = [
        int(clusterer.predict_one(mean.transform_one(point) if recipe.centred else point))
        for point in here + there
    ]
    return np.array(found[:RESIDENTS]), np.array(found[RESIDENTS:])


def figures(town: Town, residents: Ints, newcomers: Ints) -> dict[str, float]:
    """How well labels are the types, how many there are, and what newcomers lose by them."""
    sizes = np.bincount(residents)
    return {
        "agreement": agreement(town.crowd.types[:RESIDENTS], residents),
        "found": float((sizes >= 0.01 * RESIDENTS).sum()),
        "active_hour": regret(town, active_hours(town, residents, newcomers)),
        "answered_hour": regret(town, answered_hours(town, residents, newcomers)),
    }


def draw_recipe(clusterer: str, rng: np.random.Generator) -> Recipe:
    """Settings at random, from a bounded list of each."""

    def one(choices: Sequence[Any]) -> Any:
        return choices[int(rng.integers(len(choices)))]

    kind = one(_MAPS)
    return Recipe(
        clusterer=clusterer,
        kind=kind,
        detail=one(_DETAIL[kind]),
        prior=one(_PRIOR[kind]),
        centred=one((False, True)),
        passes=one((1, 3)),
        settings={name: one(choices) for name, choices in CHOICES[clusterer].items()},
    )


def neighbours(recipe: Recipe) -> Iterator[Recipe]:
    """All recipes that differ in one thing, except the kind of map."""
    yield replace(recipe, centred=not recipe.centred)
    for passes in (1, 3):
        yield replace(recipe, passes=passes)
    for detail in _DETAIL[recipe.kind]:
        yield replace(recipe, detail=detail)
    for prior in _PRIOR[recipe.kind]:
        yield replace(recipe, prior=prior)
    for name, choices in CHOICES[recipe.clusterer].items():
        for choice in choices:
            yield replace(recipe, settings=recipe.settings | {name: choice})


class Search:
    """Agreement of recipes in the medium world, on the seeds that are for tuning."""

    def __init__(self) -> None:
        self._towns = [
            (make_town("medium", activities=activities, seed=seed), seed)
            for activities in ACTIVITIES
            for seed in TUNED_ON
        ]
        self._tried: dict[str, float] = {}

    def try_out(self, recipe: Recipe) -> float:
        """The mean over towns; what was tried before is remembered."""
        key = json.dumps(asdict(recipe), sort_keys=True)
        if key not in self._tried:
            cells = [
                agreement(town.crowd.types[:RESIDENTS], labels_of(recipe, town, seed)[0])
                for town, seed in self._towns
            ]
            self._tried[key] = float(np.mean(cells))
        return self._tried[key]

    def best(self, clusterer: str, draws: int) -> Recipe:
        """The best of random draws and of what was found before, then its best neighbour, twice."""
        rng = np.random.default_rng(7)
        drawn = [draw_recipe(clusterer, rng) for _ in range(draws)]
        known = [recipe for recipe in FOUND if recipe.clusterer == clusterer]
        found = max([*drawn, *known], key=self.try_out)
        for _ in range(2):
            found = max([found, *neighbours(found)], key=self.try_out)
        return found

    def run(self, clusterers: Sequence[str], draws: int) -> None:
        """Print the best recipe of each clusterer."""
        for name in clusterers:
            recipe = self.best(name, draws)
            say("search", tried=len(self._tried), agreement=self.try_out(recipe), **asdict(recipe))


def say(name: str, **figures_: Any) -> None:
    sys.stdout.write(json.dumps({"figure": name, **figures_}) + "\n")
    sys.stdout.flush()


def ways(town: Town, seed: int) -> Iterator[tuple[str, dict[str, float]]]:
    """Figures of each way to part people, and of ways that part nobody."""
    nobody = np.zeros(RESIDENTS, np.int64), np.zeros(NEWCOMERS, np.int64)
    yield "everybody", figures(town, *nobody)
    own = best_waking(by_hour(town.seen) @ smoother())
    yield "own hour of most activity", {"active_hour": regret(town, own)}
    yield "types known", figures(town, *by_type(town))
    silent, told = (ours(town, answers=answers) for answers in (False, True))
    yield (
        "delivery-time",
        {
            "agreement": agreement(town.crowd.types[:RESIDENTS], our_labels(silent)),
            "found": float(len(np.unique(our_labels(silent)))),
            "active_hour": regret(town, our_hours(silent)),
            "answered_hour": regret(town, our_hours(told)),
        },
    )
    kept = RhythmClusters(seed=seed)
    kept.learn(by_hour(town.activity))
    labels = [np.array(kept.nearest(by_hour(counts))) for counts in (town.activity, town.seen)]
    yield "RhythmClusters", figures(town, *labels)
    for recipe in FOUND:
        yield recipe.clusterer, figures(town, *labels_of(recipe, town, seed))


def compare(worlds: Sequence[str], activities: Sequence[int], seeds: Sequence[int]) -> None:
    """Print means over seeds with 95 % intervals, and how far each is from what is kept."""
    for world in worlds:
        for count in activities:
            cells: dict[str, list[dict[str, float]]] = {}
            for seed in seeds:
                for name, cell in ways(make_town(world, activities=count, seed=seed), seed):
                    cells.setdefault(name, []).append(cell)
            kept = cells["RhythmClusters"]
            for name, mine in cells.items():
                told = {key: _interval([cell[key] for cell in mine]) for key in mine[0]}
                more = {
                    key: _interval([a[key] - b[key] for a, b in zip(mine, kept, strict=True)])
                    for key in mine[0]
                }
                say(
                    "clusters", world=world, activities=count, way=name, **told, more_than_kept=more
                )


def _interval(values: Sequence[float]) -> list[float]:
    """The mean, and half the width of its 95 % interval over seeds."""
    half = _T_95[len(values)] * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return [round(float(np.mean(values)), 3), round(half, 3)]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.measure.clusters", description=__doc__)
    some = parser.add_subparsers(dest="what")
    searched = some.add_parser("search")
    searched.add_argument("--clusterers", nargs="+", choices=list(CHOICES), default=list(CHOICES))
    searched.add_argument("--draws", type=int, default=60)
    options = parser.parse_args()
    if options.what == "search":
        Search().run(options.clusterers, options.draws)
    else:
        compare(("medium", "strong", "no-clusters"), ACTIVITIES, range(5))


if __name__ == "__main__":
    main()
