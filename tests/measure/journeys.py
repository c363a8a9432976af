"""Measure a lane's open journeys: memory, snapshot, resume, and the cost of an event.

`python -m tests.measure.journeys --journeys 1000000` prints one JSON line for each figure; times
are CPU seconds of this process.
"""

from __future__ import annotations

import argparse
import gc
import os
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Final

from flows.ingest import make_checker, make_gate, read_policy
from flows.journey.acts import NUMBERS
from flows.journey.book import Book
from flows.journey.follow import JourneyFollower
from flows.journey.make import process_of, rules_of
from flows.journey.story import Told
from flows.simulate import World
from schemas.blocks import AcceptedBlock
from tests.measure.rigs import say
from tests.unit.flows.memory_run import LANES, MemoryRun, make_settings

START_MS: Final = 1_800_000_000_000
BATCH: Final = 2_000
WAY: Final = (
    "request.created",
    "request.accepted",
    "journey.created",
    "orchestration.preference_checked",
    "orchestration.variant_assigned",
    "orchestration.channel_selected",
    "orchestration.rendered",
    "orchestration.scheduled",
    "delivery.queued",
    "delivery.attempted",
    "delivery.sent",
    "delivery.delivered",
    "engagement.seen",
    "engagement.opened",
)
"""The usual way of a journey that is still open: 14 events."""


MORE: Final = 20_000
"""Journeys beside those that are open, by which one sees what their events cost then."""


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def told(number: int, place: int, at_ms: int) -> Told:
    return Told(
        place=place,
        journey=f"jny-{number:016x}",
        at_ms=at_ms + place * 700,
        event=(number * 16 + place) * 0x9E3779B97F4A7C15 % 2**64,
        act=NUMBERS[WAY[place]],
        channel="email" if place > len(WAY) // 2 else "",
        subject=f"usr_{number % 300_000:016x}",
        notification=f"ntf-{number:016x}",
        campaign=f"campaign_{number % 40}",
        tenant="harbour",
        arm="a" if number % 2 else "b",
        purpose="marketing",
        classes="GDPR,PII",
        sensitivity=4,
        propensity=0.5,
        held_out=False,
        hops=3,
        expires_day=21_000,
        amount_minor=0,
        currency="",
        refund=False,
    )


def seconds_of(work: Callable[[], object]) -> float:
    began_s = time.process_time()
    work()
    return round(time.process_time() - began_s, 2)


def fill(book: Book, first: int, end: int) -> None:
    """Take these journeys in, each with all its events at once."""
    for start in range(first, end, BATCH):
        numbers = range(start, min(start + BATCH, end))
        at_ms = START_MS + start * 40
        events = {
            f"jny-{number:016x}": [told(number, place, at_ms) for place in range(len(WAY))]
            for number in numbers
        }
        book.fold(events, at_ms)
        book.pass_time(at_ms)


def measure_state(journeys: int) -> None:
    """Fill one lane, save it, and load it again."""
    rules, process = rules_of(make_settings()), process_of(make_settings())
    follower = JourneyFollower(rules, process)
    gc.collect()
    before = resident_bytes()
    began_s = time.process_time()
    fill(follower._book, 0, journeys)
    filled_s = time.process_time() - began_s
    gc.collect()
    held = resident_bytes() - before
    assert len(follower._book) == journeys
    dumped: list[bytes] = []
    dump_s = seconds_of(lambda: dumped.append(follower.dump()))
    other = JourneyFollower(rules, process)
    load_s = seconds_of(lambda: other.load(dumped[0]))
    assert len(other._book) == journeys
    began_s = time.process_time()
    fill(follower._book, journeys, journeys + MORE)
    more_s = time.process_time() - began_s
    say(
        "journeys",
        journeys=journeys,
        events=journeys * len(WAY),
        memory_bytes_each=round(held / journeys),
        snapshot_bytes_each=round(len(dumped[0]) / journeys),
        snapshot_s=dump_s,
        resume_s=load_s,
        fill_us_per_event=round(filled_s / journeys / len(WAY) * 1e6, 2),
        more_us_per_event=round(more_s / MORE / len(WAY) * 1e6, 2),
    )


def measure_events(messages: int) -> None:
    """The follower's part of a world's events, in blocks as a lane reads them."""
    run = MemoryRun(World(7, total=messages, end_ms=START_MS), settings=make_settings())
    policy = read_policy(run.settings)
    checker = make_checker(run.settings, policy)
    gates = [make_gate(run.settings, policy, followed=True) for _ in range(LANES)]
    blocks: list[AcceptedBlock] = []
    for raw in run.as_read(Random(7), messages_max=20_000):
        accepted = gates[raw.lane].pass_block(checker.check(raw)).accepted
        if accepted is not None:
            blocks.append(accepted)
    rules, process = rules_of(run.settings), process_of(run.settings)
    followers = [JourneyFollower(rules, process) for _ in range(LANES)]
    began_s = time.process_time()
    for block in blocks:
        followers[block.lane].follow(block)
    events = sum(len(block.ids) for block in blocks)
    say(
        "follow",
        events=events,
        blocks=len(blocks),
        us_per_event=round((time.process_time() - began_s) / events * 1e6, 2),
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.measure.journeys", description=__doc__)
    parser.add_argument("--journeys", type=int, default=1_000_000)
    parser.add_argument("--messages", type=int, default=40_000)
    options = parser.parse_args()
    # First of all: memory that others have freed would be taken again, and not be counted.
    measure_state(options.journeys)
    measure_events(options.messages)


if __name__ == "__main__":
    main()
