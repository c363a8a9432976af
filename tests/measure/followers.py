"""Measure what each step of the flow costs, and what watching for exceptions costs of that.

`python -m tests.measure.followers --messages 40000` sends a made-up world through the check, the
gate and the followers of journeys, quality and timing, in memory, and prints their shares of the
CPU seconds of this process. Kafka, ClickHouse and the engine are not in it: the share of the whole
is smaller than what is printed here. `--exceptions` counts what they cost of the journeys, too; the
counting itself then costs a tenth of a step's time where blocks are small. `--model` counts what
of timing's cost is the model.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random
from typing import Any, Final

import flows.journey.follow as journey_follow
from flows.follow import Follower
from flows.garbage import tune_garbage_collection
from flows.ingest import make_checker, make_gate, read_policy
from flows.journey.follow import JourneyFollower
from flows.journey.make import make_step
from flows.model.delivery_time import DeliveryTimeModel
from flows.process.watch import Watch
from flows.quality.make import make_quality_step
from flows.simulate import World
from flows.timing.flow import make_step as make_timing_step
from tests.measure.rigs import say
from tests.unit.flows.memory_run import LANES, MemoryRun, make_settings

END_MS: Final = 1_800_000_000_000
EXCEPTIONS: Final = "exceptions"
UPDATE, ODDS = "model_update", "model_odds"

Spent = Counter[str]


@contextmanager
def counted(spent: Spent, name: str) -> Iterator[None]:
    began_ns = time.process_time_ns()
    yield
    spent[name] += time.process_time_ns() - began_ns


def watched(spent: Spent, told: Callable[..., Any], name: str = EXCEPTIONS) -> Callable[..., Any]:
    """The same function, whose time is counted under a name."""

    def tell(*given: Any, **named: Any) -> Any:
        with counted(spent, name):
            return told(*given, **named)

    return tell


def watch_exceptions(spent: Spent) -> None:
    """Count the time of all that the journey follower does for exceptions."""
    for name in ("note", "pass_time", "end"):
        setattr(Watch, name, watched(spent, getattr(Watch, name)))
    for name in ("exception_rows", "exception_records"):
        setattr(journey_follow, name, watched(spent, getattr(journey_follow, name)))


def watch_model(spent: Spent) -> None:
    """Count the time in which the model takes something in, and in which it tells odds."""
    for name in ("learn", "correct", "state_preference", "observe_activity"):
        method = getattr(DeliveryTimeModel, name)
        setattr(DeliveryTimeModel, name, watched(spent, method, UPDATE))
    for name in ("odds", "predict"):
        method = getattr(DeliveryTimeModel, name)
        setattr(DeliveryTimeModel, name, watched(spent, method, ODDS))


def measure(spent: Spent, messages: int, block_max: int, seed: int) -> None:
    run = MemoryRun(World(seed, total=messages, end_ms=END_MS), settings=make_settings())
    blocks = list(run.as_read(Random(seed), messages_max=block_max))
    policy = read_policy(run.settings)
    checker = make_checker(run.settings, policy)
    gates = [make_gate(run.settings, policy, followed=True) for _ in range(LANES)]
    steps: dict[str, list[Follower]] = {
        "journey": [make_step(run.settings).make() for _ in range(LANES)],
        "quality": [make_quality_step(run.settings).make() for _ in range(LANES)],
        "timing": [make_timing_step(run.settings).make() for _ in range(LANES)],
    }
    assert all(isinstance(one, JourneyFollower) for one in steps["journey"])
    found = 0
    tune_garbage_collection()
    spent.clear()
    for block in blocks:
        with counted(spent, "check"):
            checked = checker.check(block)
        with counted(spent, "gate"):
            outputs = gates[block.lane].pass_block(checked)
        told = outputs.accepted or outputs.only_refused
        for name, followers in steps.items():
            if told is not None:
                with counted(spent, name):
                    followed = followers[block.lane].follow(told)
                found += sum(rows.size for rows in followed.rows if "exceptions" in rows.table)
    whole = sum(spent[name] for name in ("check", "gate", *steps))
    say(
        "followers",
        messages=messages,
        blocks=len(blocks),
        exceptions=found,
        us_per_message={name: round(ns / messages / 1_000, 2) for name, ns in spent.items()},
        share={name: round(ns / whole, 4) for name, ns in spent.items()},
        exceptions_us_per_block=round(spent[EXCEPTIONS] / len(blocks) / 1_000, 1),
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.measure.followers", description=__doc__)
    parser.add_argument("--messages", type=int, default=40_000)
    parser.add_argument("--block", type=int, default=2_000, help="messages of a block at the most")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--exceptions", action="store_true", help="count these, too")
    parser.add_argument("--model", action="store_true", help="count the model's updates and odds")
    options = parser.parse_args()
    spent: Spent = Counter()
    if options.exceptions:
        watch_exceptions(spent)
    if options.model:
        watch_model(spent)
    for seed in range(options.seeds):
        measure(spent, options.messages, options.block, seed)


if __name__ == "__main__":
    main()
