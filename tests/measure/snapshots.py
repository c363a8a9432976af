"""Measure what an epoch's snapshot costs: `python -m tests.measure.snapshots`.

A lane remembers so many events and open journeys, and a model so many people; an epoch adds a few
of each. One JSON line for each size, saved whole and in a journal: milliseconds of CPU and of wall,
bytes that are written, and what it takes to read all of it again. Nothing is asserted: machines
differ.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from connectors.journal import Journals
from flows.journey.book import Book
from flows.journey.diary import Diary
from flows.journey.make import process_of, rules_of
from flows.journey.touches import People
from flows.model import DeliveryTimeModel
from flows.model.shelf import Shelf
from flows.process.watch import Watch
from flows.steps.deduplicate import Memory
from flows.steps.keep import Kept, Part
from tests.measure.journeys import fill
from tests.measure.rigs import say
from tests.unit.flows.memory_run import make_settings

ADDED: Final = 900
EPOCHS: Final = 5
_TTL_MS: Final = 3_600_000


def remember(held: Memory, first: int, count: int) -> None:
    keys = [number * 0x9E3779B97F4A7C15 & (1 << 64) - 1 for number in range(first, first + count)]
    held.remember_all(
        keys=keys, events=keys, contents=keys, purposes=[1] * count, at_ms=[first] * count
    )


def live(model: DeliveryTimeModel, users: list[str], seed: int) -> None:
    slots = np.random.default_rng(seed).integers(0, 168, len(users))
    for start in range(0, len(users), 1_000):
        part = slice(start, start + 1_000)
        model.observe_activity(users[part], slots[part])


def measure(what: str, size: int, part: Part, again: Part, add: Callable[[int], None]) -> None:
    """An epoch's snapshot of a part that holds so much, both ways."""
    whole = timed(part.dump)
    with tempfile.TemporaryDirectory() as folder:
        kept = Kept(part)
        kept.keep_in(Journals(Path(folder)).open)
        kept.keep_as("measured")
        first = timed(kept.dump)
        mark = kept.dump()["journal"]
        epochs = []
        for epoch in range(EPOCHS):
            add(epoch)
            epochs.append(timed(kept.dump))
        last = kept.dump()["journal"]
        resumed = Kept(again)
        resumed.keep_in(Journals(Path(folder)).open)
        read = timed(lambda: resumed.load({"journal": last}))
    say(
        what,
        holds=size,
        added=ADDED,
        whole_ms=whole["ms"],
        whole_mb=round(len(msgspec.msgpack.encode(whole["gave"])) / 1e6, 2),
        journal_first_ms=first["ms"],
        journal_ms=sorted(one["ms"] for one in epochs)[EPOCHS // 2],
        journal_wall_ms=sorted(one["wall_ms"] for one in epochs)[EPOCHS // 2],
        journal_mb=round((last[2] - mark[2]) / EPOCHS / 1e6, 3),
        read_ms=read["ms"],
    )


def timed(act: Callable[[], Any]) -> dict[str, Any]:
    cpu_s, wall_s = time.thread_time(), time.perf_counter()
    gave = act()
    return {
        "ms": round((time.thread_time() - cpu_s) * 1e3, 1),
        "wall_ms": round((time.perf_counter() - wall_s) * 1e3, 1),
        "gave": gave,
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.measure.snapshots", description=__doc__)
    parser.add_argument("--events", type=int, nargs="*", default=[10_000, 250_000, 1_000_000])
    parser.add_argument("--people", type=int, nargs="*", default=[1_000, 20_000, 100_000])
    parser.add_argument("--journeys", type=int, nargs="*", default=[10_000, 250_000, 1_000_000])
    options = parser.parse_args()
    for size in options.events:
        held = Memory(_TTL_MS, 10 * size)
        remember(held, 0, size)
        measure(
            "remembered_events",
            size,
            held,
            Memory(_TTL_MS, 10 * size),
            lambda epoch, held=held, size=size: remember(held, size + epoch * ADDED, ADDED),  # type: ignore[misc]
        )
    rules, process = rules_of(make_settings()), process_of(make_settings())
    for size in options.journeys:
        open_, again = (
            Diary(Book(rules), People(rules), Watch(process, forget_ms=rules.forget_ms))
            for _ in range(2)
        )
        fill(open_.book, 0, size)
        measure(
            "journeys",
            size,
            open_,
            again,
            lambda epoch, book=open_.book, size=size: fill(  # type: ignore[misc]
                book, size + epoch * ADDED, size + (epoch + 1) * ADDED
            ),
        )
    for size in options.people:
        model = DeliveryTimeModel(seed=1)
        users = [f"usr_{number:016x}" for number in range(size)]
        live(model, users, 0)
        say("people_packed", holds=size, ms=timed(model.dump)["ms"])
        measure(
            "people",
            size,
            Shelf(model),
            Shelf(DeliveryTimeModel(seed=1)),
            lambda epoch, model=model, users=users: live(model, users[:ADDED], 1 + epoch),  # type: ignore[misc]
        )


if __name__ == "__main__":
    main()
