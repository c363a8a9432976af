"""Judge policies on a log of real prompts that were sent at random times."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from flows.model import DeliveryTimeModel
from flows.timing_bench import peers
from flows.timing_bench.play import Policy
from flows.timing_bench.worlds import DAY, WEEK, Floats, Ints
from schemas.errors import ConfigError

LOG_POLICIES: Final[dict[str, Callable[[int, int], Policy]]] = {
    "delivery-time": lambda _people, seed: DeliveryTimeModel(seed=seed),
    "random": lambda people, seed: peers.Random(people=people, seed=seed),
    "fixed-best-hour": lambda people, seed: peers.FixedBestHour(people=people, seed=seed),
    "histogram": lambda people, seed: peers.Histogram(people=people, seed=seed),
    "beta-hierarchy": lambda people, seed: peers.BetaHierarchy(people=people, seed=seed),
}
_COLUMNS: Final = ("user", "day", "block", "weekday", "hour", "completed")
_RESAMPLES: Final = 400


@dataclass(frozen=True, kw_only=True, eq=False)
class PromptLog:
    """Prompts in order of time, each at a random hour inside its block of the day.

    Shapes: one entry a prompt; `hours` are the hours that the block's randomisation may take.
    """

    users: list[str]
    slots: Ints
    blocks: Ints
    responded: np.ndarray[tuple[int], np.dtype[np.bool_]]
    hours: dict[int, tuple[Ints, Floats]]


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What a policy would have reached. Units: share of prompts answered; 95 % intervals.

    `matched` prompts are those where the policy drew the very hour that the log has: what it
    learned from and is judged by (rejection). `snips` weighs every prompt by the policy's odds
    over the log's, where those are known for every hour, else by the draw itself; `effective` is
    how many equally weighted prompts that is worth.
    """

    policy: str
    matched: int
    rate: float
    rate_interval: tuple[float, float]
    snips: float
    snips_interval: tuple[float, float]
    effective: float


def read_prompts(path: Path) -> PromptLog:
    """Read a CSV of user, day, block, weekday (Monday 0), hour (local) and completed (0 or 1).

    Errors: ConfigError where a column is missing.
    """
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8", newline="") as lines:
        reader = csv.DictReader(lines)
        missing = [name for name in _COLUMNS if name not in (reader.fieldnames or ())]
        if missing:
            raise ConfigError(
                do="read",
                kind="prompts",
                name=path.name,
                found=f"no column {missing[0]}",
                expected=f"columns {', '.join(_COLUMNS)}",
            )
        rows = sorted(reader, key=lambda row: (float(row["day"]), float(row["hour"])))
    rows = [row for row in rows if row["hour"] and row["weekday"]]
    hour = np.array([int(float(row["hour"])) % DAY for row in rows])
    weekday = np.array([int(float(row["weekday"])) for row in rows])
    blocks = np.array([int(float(row["block"])) for row in rows])
    return PromptLog(
        users=[row["user"] for row in rows],
        slots=weekday * DAY + hour,
        blocks=blocks,
        responded=np.array([row["completed"] == "1" for row in rows]),
        hours={int(block): _hours_of(hour[blocks == block]) for block in np.unique(blocks)},
    )


def _hours_of(hour: Ints) -> tuple[Ints, Floats]:
    """The hours of a block and how often each is drawn; rare ones are strays and left out."""
    hours, counts = np.unique(hour, return_counts=True)
    common = counts >= 0.02 * len(hour)
    share = counts[common] / counts[common].sum()
    return hours[common], share


def replay_log(log: PromptLog, policy: str, *, seeds: Sequence[int]) -> Judged:
    """Let a policy choose the hour inside each block, and keep what the log can tell.

    Prompts are taken in order. Where the policy draws the hour that the log has, it sees the
    outcome and learns; elsewhere it learns nothing (rejection sampling: unbiased for what it would
    have learned, since the log's hours are random inside the block). Hours of a block are not all
    equally likely, so matches are weighed by one over the log's share.

    Source: Li, Chu, Langford, Wang 2011 (replay); Swaminathan, Joachims 2015 (SNIPS).
    """
    people = len(set(log.users))
    runs = [_replay(log, LOG_POLICIES[policy](people, seed), seed) for seed in seeds]
    match = np.concatenate([run[0] for run in runs])
    weight = np.concatenate([run[1] for run in runs])
    logged = np.concatenate([run[2] for run in runs])
    answered = np.tile(log.responded, len(runs)).astype(float)
    who = np.unique(np.array(log.users), return_inverse=True)[1]
    person = np.tile(who, len(runs))
    by_match = match / np.maximum(logged, 1e-9)
    return Judged(
        policy=policy,
        matched=int(match.sum() / len(runs)),
        rate=_ratio(answered, by_match),
        rate_interval=_interval(answered, by_match, person, people),
        snips=_ratio(answered, weight),
        snips_interval=_interval(answered, weight, person, people),
        effective=float(weight.sum() ** 2 / max((weight**2).sum(), 1e-9) / len(runs)),
    )


def _replay(log: PromptLog, policy: Policy, seed: int) -> tuple[Floats, Floats, Floats]:
    """Match, weight and log's share of each prompt."""
    n = len(log.users)
    match, weight, logged = np.zeros(n), np.zeros(n), np.zeros(n)
    for at in range(n):
        hours, share = log.hours[int(log.blocks[at])]
        place = np.flatnonzero(hours == log.slots[at] % DAY)
        if not len(place):
            continue
        allowed = np.zeros((1, WEEK), dtype=np.bool_)
        allowed[0, log.slots[at] // DAY * DAY + hours] = True
        user, key = [log.users[at]], np.array([seed * n + at])
        slots, _ = policy.decide(user, allowed, keys=key)
        logged[at] = share[place[0]]
        taken = int(slots[0]) == int(log.slots[at])
        match[at] = float(taken)
        weight[at] = match[at] / logged[at]
        if isinstance(policy, DeliveryTimeModel):  # its odds of the log's hour are known exactly
            odds = policy.odds(user, allowed)
            weight[at] = float(odds[0, log.slots[at]]) / logged[at]
        if taken:
            policy.learn(user, slots, log.responded[at : at + 1])
    return match, weight, logged


def _ratio(answered: Floats, weight: Floats) -> float:
    return float((answered * weight).sum() / max(weight.sum(), 1e-9))


def _interval(answered: Floats, weight: Floats, person: Ints, people: int) -> tuple[float, float]:
    """Bootstrap over people, since prompts of one person are alike."""
    above = np.bincount(person, answered * weight, minlength=people)
    below = np.bincount(person, weight, minlength=people)
    rng = np.random.default_rng(7)
    drawn = rng.integers(0, people, (_RESAMPLES, people))
    rates = above[drawn].sum(axis=1) / np.maximum(below[drawn].sum(axis=1), 1e-9)
    low, high = np.quantile(rates, [0.025, 0.975])
    return float(low), float(high)
