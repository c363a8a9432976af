"""Play policies against each other in every world, over many seeds, and report intervals."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from flows.model import DeliveryTimeModel
from flows.model.alternatives import LinUcbPolicy, LogisticPolicy
from flows.model.kernel import Kernel
from flows.timing_bench import outside, peers
from flows.timing_bench.play import Policy, play
from flows.timing_bench.utc import InUtc
from flows.timing_bench.worlds import WORLDS, World

SENDS_AT: Final = (5, 20, 50)
# One event after the other: these get fewer people, as the table says.
SLOW: Final = frozenset({"lin-ucb", "logistic", "squarecb"})
SLOW_PEOPLE_MAX: Final = 300

Maker = Callable[[int, int], Policy]

POLICIES: Final[dict[str, Maker]] = {
    "delivery-time": lambda _people, seed: DeliveryTimeModel(seed=seed),
    "random": lambda people, seed: peers.Random(people=people, seed=seed),
    "fixed-best-hour": lambda people, seed: peers.FixedBestHour(people=people, seed=seed),
    "personal-best-hour": lambda people, seed: peers.PersonalBestHour(people=people, seed=seed),
    "histogram": lambda people, seed: peers.Histogram(people=people, seed=seed),
    "thompson": lambda people, seed: peers.PersonalThompson(people=people, seed=seed),
    "beta-hierarchy": lambda people, seed: peers.BetaHierarchy(people=people, seed=seed),
    "lin-ucb": lambda _people, seed: LinUcbPolicy(seed=seed),
    "logistic": lambda _people, seed: LogisticPolicy(seed=seed),
    "squarecb": lambda people, seed: outside.SquareCb(people=people, seed=seed),
    # Only in the world of the clock change: the same model without the person's zone.
    "delivery-time-utc": lambda _people, seed: InUtc(DeliveryTimeModel(seed=seed)),
}
# Student's t, 97.5 %, by degrees of freedom from 1.
_T: Final = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23, 2.20, 2.18, 2.16, 2.14)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One policy in one world.

    Shapes: shares of random's cumulative regret at each of the asked numbers of sends, a row a
    seed; 0 is the oracle, 1 is random. What random comes to itself is `regret_of_random`, in
    answers lost a send.
    """

    world: str
    policy: str
    people: int
    shares: list[list[float]]
    regret_of_random: float

    def interval(self, place: int) -> tuple[float, float]:
        """Mean over seeds and half the width of its 95 % interval (Student's t)."""
        values = np.array(self.shares)[:, place]
        if len(values) < 2:  # noqa: PLR2004 - one seed tells no spread
            return float(values.mean()), float("nan")
        error = values.std(ddof=1) / np.sqrt(len(values))
        quantile = _T[min(len(values) - 2, len(_T) - 1)]
        return float(values.mean()), float(quantile * error)


def absences(names: Sequence[str]) -> dict[str, str]:
    """Policies that cannot be measured here, and why."""
    reason = outside.absence()
    return {"squarecb": reason} if reason and "squarecb" in names else {}


def run_bench(
    *,
    worlds: Sequence[str],
    policies: Sequence[str],
    seeds: Sequence[int],
    people: int,
    sends: int,
    sends_at: Sequence[int] = SENDS_AT,
    kernel: Kernel | None = None,
) -> Iterator[Cell]:
    """Play every policy in every world with every seed; the delivery-time model with a kernel.

    In a world where no slot is better than another there is no regret, and shares are NaN.
    """
    missing = absences(policies)
    makers = POLICIES | {
        "delivery-time": lambda _people, seed: DeliveryTimeModel(seed=seed, kernel=kernel)
    }
    for name in worlds:
        for policy in policies:
            if policy in missing or (policy == "delivery-time-utc" and not WORLDS[name].hour_jump):
                continue
            many = min(people, SLOW_PEOPLE_MAX) if policy in SLOW else people
            make = makers[policy]
            yield _cell(WORLDS[name], policy, make, seeds, people=many, sends=sends, at=sends_at)


def _cell(
    world: World,
    policy: str,
    make: Maker,
    seeds: Sequence[int],
    *,
    people: int,
    sends: int,
    at: Sequence[int],
) -> Cell:
    shares, lost = [], []
    for seed in seeds:
        played = play(make(people, seed), world, people=people, sends=sends, seed=seed)
        shares.append([played.share_at(due, people) for due in at])
        lost.append(float(played.regret_of_random.sum() / max(1, played.sent.sum())))
    return Cell(
        world=world.name,
        policy=policy,
        people=people,
        shares=shares,
        regret_of_random=float(np.mean(lost)),
    )
