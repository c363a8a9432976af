"""Airside: its own lanes, checker, rollup; the level decides which source and checker they are.

The thin adapter: `LEVELS` is all that has to change when the product gets another level.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from importlib.metadata import version
from itertools import compress
from operator import attrgetter
from typing import Any, Final, cast

import bytewax.operators as op
import numpy as np
import numpy.typing as npt
from bytewax.dataflow import Dataflow
from bytewax.operators import StatefulBatchLogic
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.run import cli_main

from connectors.clock import SystemClock
from connectors.kafka.lanes import LaneSource
from connectors.native.level import Wish, choose_level
from flows.ingest import make_checker, read_policy
from flows.run import tune_garbage_collection
from flows.settings import Settings, read_settings
from flows.steps.check import BlockChecker
from flows.steps.roll_up import Rollup
from schemas.blocks import CheckedBlock
from schemas.errors import ConfigError
from schemas.rollup import MINUTE_MS, Dimensions
from schemas.tickets import Tickets
from tests.bench.meter import Meter, Task, leave, read_task, report
from tests.bench.tables import insert

KINDS: Final = (
    "ntf.engagement.seen.v1",
    "ntf.engagement.opened.v1",
    "ntf.engagement.clicked.v1",
    "ntf.engagement.dismissed.v1",
    "ntf.engagement.unsubscribed.v1",
)
POSITIVE: Final = frozenset((1, 2))
_ONE: Final = np.int32(1)
_place_of = attrgetter("campaign", "channel")
Codes = npt.NDArray[np.int64]


class Level:
    """The product's source and checker at one level. Errors: ImportError when it is not here."""

    def __init__(self, name: str) -> None:
        try:
            self.name = choose_level(cast("Wish", name)).name
        except ConfigError as err:
            raise ImportError(str(err)) from None

    def source(self, task: Task, stop: Callable[[], bool]) -> LaneSource:
        return LaneSource(
            bootstrap_servers=task.bootstrap_servers,
            lanes=task.cells,
            own=(task.cell,),
            tables=(),
            streams=(task.topic,),
            clock=SystemClock(),
            stop=stop,
            level=self.name,
        )

    def checker(self, settings: Settings) -> BlockChecker:
        return make_checker(settings, read_policy(settings))


class People:
    """One row of five counters for each person, in one array that grows by doubling."""

    def __init__(self) -> None:
        self.rows: dict[str, int] = {}
        self.counters: npt.NDArray[np.int32] = np.zeros((1_024, len(KINDS)), np.int32)

    def add(self, subjects: list[str], kinds: Codes) -> None:
        rows = self.rows
        places = list(map(rows.get, subjects))
        if None in places:
            for place, row in enumerate(places):
                if row is None:
                    places[place] = rows.setdefault(subjects[place], len(rows))
        while len(rows) > len(self.counters):
            self.counters = np.concatenate([self.counters, np.zeros_like(self.counters)])
        flat = np.array(places, np.int64) * len(KINDS) + kinds
        np.add.at(self.counters.reshape(-1), flat, _ONE)


class Job:
    """What one job does with each checked block of a lane, and what it found."""

    def __init__(self, job: str) -> None:
        self._job = job
        self.routed: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.rollup = Rollup()
        self._kinds = {name: number for number, name in enumerate(KINDS)}
        self._arms: dict[tuple[str, str], int] = {}
        self._arm_counts: npt.NDArray[np.int64] = np.zeros((2, 1_024), np.int64)
        self._numbers: dict[tuple[Any, str], int] = {}
        self._changed: list[Codes] = []
        self.people = People()

    @property
    def seen(self) -> int:
        return self.routed.total() + self.refused.total()

    def take(self, block: CheckedBlock) -> dict[str, list[int]]:
        """Route the block: the places of its messages by destination."""
        tickets = block.tickets
        accepted = np.ones(len(block.bodies), np.bool_)
        accepted[list(block.refusals)] = False
        places = np.flatnonzero(accepted)
        numbers = tickets.numbers[places]
        topics = [label.decision.topic for label in tickets.labels]
        known = {topic: number for number, topic in enumerate(dict.fromkeys(topics))}
        doors = np.array([known[topic] for topic in topics], np.int64)[numbers]
        routed = {topic: places[doors == number].tolist() for topic, number in known.items()}
        for topic, found in routed.items():
            self.routed[topic] += len(found)
        self.refused.update(refusal.code for refusal in block.refusals.values())
        if self._job in "BC":
            bodies: list[Any] = block.bodies
            if block.refusals:
                bodies = list(compress(bodies, accepted.tolist()))
            self._roll_up_and_follow(tickets, places, bodies)
        return routed

    def _roll_up_and_follow(self, tickets: Tickets, places: Codes, bodies: list[Any]) -> None:
        size = len(bodies)
        pairs = list(map(_place_of, bodies))
        minutes = (tickets.times_ms[places] // MINUTE_MS).tolist()
        found = tickets.numbers[places]
        labels = tickets.labels
        numbers = [
            self._number_of(labels[number], campaign)
            for number, (campaign, _) in zip(found.tolist(), pairs, strict=True)
        ]
        nothing = [0] * size
        self._changed.append(
            self.rollup.add(
                minutes=minutes, numbers=numbers, amounts=nothing, buckets=nothing, recorded=nothing
            )
        )
        if self._job == "C":
            number_of = self._kinds
            kinds = np.array([number_of[label.type] for label in labels], np.int64)[found]
            subjects = list(map(tickets.subjects.__getitem__, places.tolist()))
            self.people.add(subjects, kinds)
            self._learn(pairs, kinds)

    def _number_of(self, label: Any, campaign: str) -> int:
        number = self._numbers.get((label, campaign))
        if number is None:
            dimensions = Dimensions(label.type, campaign, "", "", "")
            number = self._numbers[label, campaign] = self.rollup.number_of(dimensions)
        return number

    def _learn(self, pairs: list[tuple[str, str]], kinds: Codes) -> None:
        arms = self._arms
        numbers = np.fromiter(
            (arms.setdefault(pair, len(arms)) for pair in pairs), np.int64, len(pairs)
        )
        failed = ~np.isin(kinds, list(POSITIVE))
        flat = failed * self._arm_counts.shape[1] + numbers
        self._arm_counts += np.bincount(flat, minlength=self._arm_counts.size).reshape(2, -1)

    def cells(self) -> dict[str, Any]:
        codes: Codes = np.unique(np.concatenate(self._changed))
        columns = self.rollup.rows(codes, lane=0).columns
        kinds = [self._kinds[name] for name in columns["event_type"]]
        minutes = np.asarray(columns["w"], np.int64) // MINUTE_MS
        return {
            "minute": minutes,
            "campaign": columns["campaign"],
            "kind": kinds,
            "events": columns["n"],
        }

    def users(self) -> npt.NDArray[np.int64]:
        return self.people.counters[: len(self.people.rows)].astype(np.int64)

    def arms(self) -> npt.NDArray[np.int64]:
        return self._arm_counts[:, : len(self._arms)]

    def write(self, url: str) -> None:
        """Write cells, people and arms: three inserts."""
        insert(url, "cells", self.cells())
        users = self.users()
        counters = {f"k{number}": users[:, number] for number in range(len(KINDS))}
        insert(url, "users", {"subject": list(self.people.rows), **counters})
        campaigns, channels = zip(*self._arms, strict=True)
        good, bad = self.arms()
        insert(url, "arms", {"campaign": campaigns, "channel": channels, "good": good, "bad": bad})

    def counts(self) -> dict[str, Any]:
        found: dict[str, Any] = {
            "routed": dict(sorted(self.routed.items())),
            "refused": dict(sorted(self.refused.items())),
        }
        if self._job in "BC":
            events = np.array(self.cells()["events"], np.int64)
            found["cells"] = len(events)
            found["cells_sum"] = int(events.sum())
            found["cells_squares"] = int((events * events).sum())
        if self._job == "C":
            users, arms = self.users(), self.arms()
            found["users"] = len(users)
            found["users_squares"] = int((users * users).sum(0) @ np.arange(1, len(KINDS) + 1))
            found["arms"] = arms.shape[1]
            found["arms_squares"] = int((arms * arms).sum(1) @ np.array([1, 3]))
        return found


class JobLogic(StatefulBatchLogic[CheckedBlock, dict[str, list[int]], None]):
    """One lane's job behind Bytewax's interface."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def on_batch(self, values: list[CheckedBlock]) -> tuple[Iterable[dict[str, list[int]]], bool]:
        return [self._job.take(block) for block in values], False

    def on_eof(self) -> tuple[Iterable[dict[str, list[int]]], bool]:
        return [], False

    def snapshot(self) -> None:
        return None


class _Nowhere(StatelessSinkPartition[Any]):
    def write_batch(self, items: list[Any]) -> None:
        """What is routed ends here: the jobs compare the way to the doors."""


class Nowhere(DynamicSink[Any]):
    def build(self, _step_id: str, _worker_index: int, _worker_count: int) -> _Nowhere:
        return _Nowhere()


def build(task: Task, level: Level, job: Job, meter: Meter) -> Dataflow:
    settings = read_settings({"kafka": {"bootstrap_servers": "-"}, "clickhouse": {"url": "-"}})
    checker = level.checker(settings)

    def check(block: Any) -> Any:
        meter.begin()
        return checker.check(block)

    flow = Dataflow("bench")
    source = level.source(task, lambda: job.seen >= task.messages)
    blocks = op.input("read_lanes", flow, source)
    checked = op.map_value("check_block", blocks, check)
    routed = op.stateful_batch("do_job", checked, lambda _resume: JobLogic(job))
    op.output("route", routed, Nowhere())
    return flow


def run(task: Task) -> None:
    meter, job = Meter(), Job(task.job)
    flow = build(task, Level(task.level), job, meter)
    tune_garbage_collection()
    cli_main(flow)
    if task.job == "C":
        job.write(task.clickhouse_url)
    measured = meter.end()
    versions = {name: version(name) for name in ("airside", "bytewax", "confluent-kafka")}
    report(measured, job.counts(), versions)


if __name__ == "__main__":
    run(read_task())
    leave()
