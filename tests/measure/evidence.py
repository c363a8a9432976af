"""Measure the honest test and the estimators: `python -m tests.measure.evidence`.

Seeded, one JSON line for each figure of docs/evidence.md. Nothing is asserted here; a small part
of it is in tests/model/test_evidence_worlds.py.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any, Final

import numpy as np

from flows.model.evidence.assignment import is_split_wrong, split_log_e
from flows.model.evidence.clusters import ClusterLooks, cluster_log_e
from flows.model.evidence.compare import Bounds, Plan, bounds_of, states_of
from flows.model.evidence.off_policy import (
    Estimate,
    evaluate,
    favoured_target,
    hour_target,
    uniform_target,
)
from flows.model.evidence.slots import any_slot_log_e, discoveries, slot_log_e, slot_sums
from tests.measure.evidence_worlds import (
    as_single,
    draw_log,
    draw_picks,
    paying_sends,
    people_and_hours,
    same_people,
    single_sends,
)

POWER_FACTOR: Final = 7.848879734349086  # (z of 97.5 % + z of 80 %) squared
ALPHA: Final = 0.05


def fixed_size(holdout: float, base: float, lift: float) -> float:
    """Sends of both arms that a two-sided 5 % test of fixed size needs for 80 % power."""
    better = base + lift
    spread = base * (1 - base) / holdout + better * (1 - better) / (1 - holdout)
    return POWER_FACTOR * spread / lift**2


def alarms(bounds: Bounds) -> Any:
    """Where 0 is outside, whatever the state."""
    return bounds.ready & (np.abs(bounds.lift) > bounds.half_width)


def false_alarms(seed: int, runs: int, *, holdout: float, base: float, sends: int) -> float:
    """Share of null worlds in which 0 is ever outside, looked at after every send."""
    rng = np.random.default_rng(seed)
    found = 0
    for _ in range(runs):
        sums = single_sends(rng, sends, holdout=holdout, base=base, lift=0.0)
        found += bool(alarms(bounds_of(sums, Plan())).any())
    return found / runs


def paying_alarms(seed: int, runs: int, *, holdout: float, sends: int) -> float:
    """The same for revenue; 16.5 a send, of which a lift of 2 would matter."""
    rng = np.random.default_rng(seed)
    plan = Plan(interest=2.0)
    worlds = (paying_sends(rng, sends, holdout=holdout, base=0.01) for _ in range(runs))
    return sum(bool(alarms(bounds_of(sums, plan)).any()) for sums in worlds) / runs


def people_alarms(seed: int, runs: int, *, holdout: float, rounds: int) -> tuple[float, float]:
    """The same while people get many sends: by our test, and by one that takes sends apart."""
    rng = np.random.default_rng(seed)
    ours = naive = 0
    for _ in range(runs):
        sums = same_people(rng, people=2_000, rounds=rounds, holdout=holdout, lift=0.0, looks=10)
        ours += bool(alarms(bounds_of(sums, Plan())).any())
        naive += bool(alarms(bounds_of(as_single(sums), Plan())).any())
    return ours / runs, naive / runs


def stopping(seed: int, runs: int, *, holdout: float, lift: float = 0.02) -> list[float]:
    """Sends until the effect is found, as multiples of the fixed size; 8 where it never was."""
    rng = np.random.default_rng(seed)
    fixed = fixed_size(holdout, 0.1, lift)
    times = []
    for _ in range(runs):
        sums = single_sends(rng, int(8 * fixed), holdout=holdout, base=0.1, lift=lift)
        found, _ = states_of(bounds_of(sums, Plan()), Plan())
        times.append((int(found.argmax()) + 1 if found.any() else 8 * fixed) / fixed)
    return times


def wrong_acceptances(seed: int, runs: int, *, lift: float, sends: int) -> tuple[float, float]:
    """Shares of worlds that ever accept the null, and that ever have the lift outside."""
    rng = np.random.default_rng(seed)
    accepted = missed = 0
    for _ in range(runs):
        bounds = bounds_of(single_sends(rng, sends, holdout=0.5, base=0.1, lift=lift), Plan())
        accepted += bool(states_of(bounds, Plan())[1].any())
        missed += bool((bounds.ready & (np.abs(bounds.lift - lift) > bounds.half_width)).any())
    return accepted / runs, missed / runs


def slot_alarms(seed: int, runs: int, *, lift: float, blocks: int) -> tuple[float, float, float]:
    """Shares of runs in which any slot is called different, e-BH finds one, and finds the best.

    Looked at after every 100 picks.
    """
    rng = np.random.default_rng(seed)
    hits = np.zeros(3)
    for _ in range(runs):
        sums = np.zeros((3, 16))
        seen = np.zeros(3, bool)
        for _ in range(blocks):
            sums += slot_sums(*draw_picks(rng, 100, bins=16, best_lift=lift))
            found = discoveries(slot_log_e(sums), ALPHA)
            seen |= [any_slot_log_e(sums) >= np.log(1 / ALPHA), found.any(), found[0]]
        hits += seen
    return tuple(float(share) for share in hits / runs)  # type: ignore[return-value]


def split_alarms(seed: int, runs: int, *, share: float, subjects: int) -> float:
    """Share of runs in which a holdout planned at 10 % is ever called wrong, looking always."""
    rng = np.random.default_rng(seed)
    found = 0
    for _ in range(runs):
        held = np.cumsum(rng.random(subjects) < share)
        looks = range(0, subjects, 10)
        found += any(
            is_split_wrong(split_log_e([n + 1 - int(held[n]), int(held[n])], [0.9, 0.1]))
            for n in looks
        )
    return found / runs


def cluster_alarms(
    seed: int, runs: int, *, strength: float, adaptive: bool, people: int, sends: int
) -> float:
    """Share of runs in which clusters are ever said to exist, in five looks at growing data."""
    rng = np.random.default_rng(seed)
    found = 0
    for _ in range(runs):
        looks = ClusterLooks()
        for part in range(1, 6):
            counts = people_and_hours(
                rng,
                people=people,
                sends=sends * part // 5,
                strength=strength,
                adaptive=adaptive,
            )
            looks = looks.look(cluster_log_e(*counts))
        found += looks.exist(ALPHA)
    return found / runs


def coverage(seed: int, runs: int, *, people: int, each: int) -> dict[str, dict[str, float]]:
    """How often each estimator's 95 % interval holds the truth, and its mean width."""
    rng = np.random.default_rng(seed)
    targets = {"uniform": uniform_target, "fixed:18": hour_target(18), "model": favoured_target}
    kinds = ("ips", "snips", "doubly_robust")
    found = {name: dict.fromkeys(kinds, 0.0) for name in targets}
    widths = {name: dict.fromkeys(kinds, 0.0) for name in targets}
    for _ in range(runs):
        log = draw_log(rng, people=people, each=each)
        for name, target in targets.items():
            truth = log.value(target)
            told = evaluate(name, log.decisions, target)
            for kind in kinds:
                estimate: Estimate = getattr(told, kind)
                found[name][kind] += (estimate.low <= truth <= estimate.high) / runs
                widths[name][kind] += (estimate.high - estimate.low) / runs
    return {
        name: {
            **{kind: round(share, 4) for kind, share in found[name].items()},
            **{f"{kind}_width": round(width, 4) for kind, width in widths[name].items()},
        }
        for name in targets
    }


def say(name: str, **figures: Any) -> None:
    sys.stdout.write(json.dumps({"figure": name, **figures}) + "\n")
    sys.stdout.flush()


def measure_comparison(seed: int, runs: int) -> None:
    for holdout, base in ((0.5, 0.1), (0.1, 0.1), (0.05, 0.1), (0.1, 0.02), (0.1, 0.3)):
        share = false_alarms(seed, runs, holdout=holdout, base=base, sends=50_000)
        say("false_alarms", holdout=holdout, base=base, sends=50_000, runs=runs, share=share)
    for holdout in (0.5, 0.1):
        share = paying_alarms(seed, runs, holdout=holdout, sends=50_000)
        say("false_alarms_revenue", holdout=holdout, sends=50_000, runs=runs, share=share)
    for holdout in (0.5, 0.1):
        ours, naive = people_alarms(seed, runs, holdout=holdout, rounds=50)
        say("false_alarms_same_people", holdout=holdout, runs=runs, share=ours, naive=naive)
    for holdout in (0.5, 0.1):
        times = stopping(seed, runs, holdout=holdout)
        say(
            "stopping",
            holdout=holdout,
            runs=runs,
            fixed=round(fixed_size(holdout, 0.1, 0.02)),
            median=round(float(np.median(times)), 3),
            mean=round(float(np.mean(times)), 3),
            p90=round(float(np.quantile(times, 0.9)), 3),
            never=sum(time >= 8 for time in times),
        )
    for lift in (0.0, 0.01, 0.015, 0.02):
        accepted, missed = wrong_acceptances(seed, runs, lift=lift, sends=150_000)
        say("acceptance", lift=lift, runs=runs, accepted=accepted, lift_ever_outside=missed)


def measure_others(seed: int, runs: int) -> None:
    for lift in (0.0, 0.03):
        any_slot, some, best = slot_alarms(seed, runs, lift=lift, blocks=300)
        say("slots", lift=lift, runs=runs, picks=30_000, any=any_slot, e_bh=some, best=best)
    for share in (0.1, 0.12):
        wrong = split_alarms(seed, runs, share=share, subjects=20_000)
        say("split", share=share, runs=runs, subjects=20_000, wrong=wrong)
    for strength, adaptive in ((0.0, False), (0.0, True), (0.5, False), (1.0, False), (1.0, True)):
        found = cluster_alarms(
            seed, runs, strength=strength, adaptive=adaptive, people=2_000, sends=50
        )
        say("clusters", strength=strength, adaptive=adaptive, runs=runs, found=found)
    for people, each in ((400, 5), (4_000, 5)):
        shares = coverage(seed, runs, people=people, each=each)
        for name, figures in shares.items():
            say("off_policy", policy=name, decisions=people * each, runs=runs, **figures)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.measure.evidence", description=__doc__)
    parser.add_argument("--runs", type=int, default=400)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--part", choices=["all", "comparison", "others"], default="all")
    options = parser.parse_args()
    if options.part != "others":
        measure_comparison(options.seed, options.runs)
    if options.part != "comparison":
        measure_others(options.seed, options.runs)


if __name__ == "__main__":
    main()
