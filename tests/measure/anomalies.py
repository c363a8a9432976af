"""Compare detectors on simulated minutes: `python -m tests.measure.anomalies`.

Each seed has a calm stream of two days with a daily rhythm, for false alarms, and streams with a
drop to nothing, a drop by half, a burst and a change of mix, for the delay in minutes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from math import pi, sin, sqrt
from statistics import median
from typing import Any

import numpy as np
from river import anomaly as river_anomaly
from river import drift as river_drift

from flows.quality.detect import Limits, Series

SEEDS = range(100, 112)
"""Others than the bounds of `Limits` were chosen on, which were 0 to 11."""
MINUTES = 2_880
AT = 1_440
RATES = (60.0, 6.0)
"""Events a minute."""
SHARES = np.array([0.4, 0.3, 0.2, 0.1])
FAULTS = ("drop", "half", "burst", "mix")
# The detectors are not typed.
anomaly: Any = river_anomaly
drift: Any = river_drift

Minute = dict[str, int]
Detector = Callable[[Minute], bool]


def stream(seed: int, fault: str, mean: float) -> Iterator[Minute]:
    """The counts of each type, minute by minute."""
    rng = np.random.default_rng(seed)
    for minute in range(MINUTES):
        rate = mean * (1 + 0.4 * sin(2 * pi * minute / 1_440)) * rng.gamma(100, 0.01)
        shares = SHARES
        if minute >= AT:
            rate *= {"drop": 0.0, "half": 0.5, "burst": 3.0}.get(fault, 1.0)
            shares = SHARES[::-1] if fault == "mix" else SHARES
        counts = rng.multinomial(rng.poisson(rate), shares)
        yield {f"t{number}": int(n) for number, n in enumerate(counts) if n}


def ours() -> Detector:
    series, limits = Series(), Limits()
    return lambda minute: bool(series.close(minute, limits))


def residual() -> Callable[[Minute], tuple[float, float, float]]:
    """What level and mix are off by, for detectors that expect no trend."""
    state = {"level": 0.0, "share": 0.0, "seen": 0.0}

    def off(minute: Minute) -> tuple[float, float, float]:
        n = sum(minute.values())
        value, share = 2 * sqrt(n + 0.375), minute.get("t0", 0) / n if n else state["share"]
        found = value - state["level"], share - state["share"]
        state["seen"] += 1
        weight = max(0.05, 1 / state["seen"])
        state["level"] += weight * found[0]
        state["share"] += weight * found[1]
        return (*found, share)

    return off


def drifting(make: Callable[[], Any]) -> Callable[[], Detector]:
    def build() -> Detector:
        off, detectors = residual(), (make(), make())

        def take(minute: Minute) -> bool:
            hit = False
            volume, _, share = off(minute)
            # The share itself, ten times, so that one bound suits both.
            for one, value in zip(detectors, (volume, 10 * share), strict=True):
                one.update(value)
                hit = hit or one.drift_detected
            return hit

        return take

    return build


def gaussian() -> Detector:
    off = residual()
    scorers = [anomaly.GaussianScorer(window_size=None, grace_period=30) for _ in range(2)]

    def take(minute: Minute) -> bool:
        hit = False
        for one, value in zip(scorers, off(minute)[:2], strict=True):
            hit = hit or one.score_one(None, value) > 1 - 1e-6
            one.learn_one(None, value)
        return hit

    return take


def half_space() -> Detector:
    off = residual()
    trees = anomaly.HalfSpaceTrees(
        n_trees=15, height=6, window_size=250, seed=1, limits={"a": (-15, 15), "b": (-1, 1)}
    )
    seen = [0]

    def take(minute: Minute) -> bool:
        a, b, _ = off(minute)
        point = {"a": a, "b": b}
        seen[0] += 1
        hit = seen[0] > 500 and trees.score_one(point) > 0.97
        trees.learn_one(point)
        return hit

    return take


DETECTORS: dict[str, Callable[[], Detector]] = {
    "ours": ours,
    "ADWIN": drifting(lambda: drift.ADWIN(delta=0.0001)),
    "PageHinkley": drifting(lambda: drift.PageHinkley(min_instances=30, delta=0.5, threshold=20)),
    "GaussianScorer": gaussian,
    "HalfSpaceTrees": half_space,
}


def hits(make: Callable[[], Detector], seed: int, fault: str, mean: float) -> list[int]:
    detector = make()
    return [number for number, minute in enumerate(stream(seed, fault, mean)) if detector(minute)]


def line(name: str, mean: float) -> str:
    """What one detector found at one rate: found of all seeds, and the median delay."""
    make = DETECTORS[name]
    calm = sum(len(hits(make, seed, "", mean)) for seed in SEEDS)
    told = f"{name:16}{calm * 1_440 / (MINUTES * len(SEEDS)):20.3f}"
    for fault in FAULTS:
        after = [
            [at - AT for at in hits(make, seed, fault, mean) if AT <= at < AT + 120]
            for seed in SEEDS
        ]
        delays = [some[0] for some in after if some]
        found = f"{len(delays)}/{len(SEEDS)}, {median(delays):.0f} min" if delays else "none"
        told += f"{found:>18}"
    return told


def main() -> int:
    """Print a line for each detector and rate."""
    say = sys.stdout.write
    for mean in RATES:
        heads = "".join(f"{fault:>18}" for fault in FAULTS)
        say(f"{f'{mean:.0f} a minute':16}{'false alarms a day':>20}{heads}\n")
        for name in DETECTORS:
            say(line(name, mean) + "\n")
            sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
