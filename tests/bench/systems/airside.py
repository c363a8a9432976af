"""Airside: its own lanes, checker, rollup; the level decides which source and checker they are.

The thin adapter: `LEVELS` is all that has to change when the product gets another level.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from itertools import count
from typing import Any, ClassVar, Final, cast

import bytewax.operators as op
import numpy as np
import numpy.typing as npt
from bytewax.dataflow import Dataflow
from bytewax.operators import StatefulBatchLogic
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.run import cli_main

from connectors.clock import SystemClock
from connectors.kafka.lanes import LaneSource
from connectors.native.level import Wish, choose_level, load_native
from flows.garbage import tune_garbage_collection
from flows.ingest import make_checker, read_policy
from flows.settings import Settings, read_settings
from flows.steps.check import BlockChecker
from flows.steps.roll_up import Rollup
from schemas.blocks import CheckedBlock, Coded
from schemas.bodies import words_of
from schemas.errors import ConfigError
from schemas.rollup import MINUTE_MS, Dimensions
from schemas.tickets import columns_at
from tests.bench.corpus import CHANNELS
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
_FAILED: Final = np.array([number not in POSITIVE for number in range(len(KINDS))], np.int64)
WORDS_MAX: Final = 1 << 12
_ONE: Final = np.int32(1)
Codes = npt.NDArray[np.int64]


class Level:
    """The product's source and checker at one level. Errors: ImportError when it is not here."""

    lanes: ClassVar[type[LaneSource]] = LaneSource

    def __init__(self, name: str) -> None:
        try:
            self.name = choose_level(cast("Wish", name)).name
        except ConfigError as err:
            raise ImportError(str(err)) from None

    def source(self, task: Task, stop: Callable[[], bool]) -> LaneSource:
        return self.lanes(
            bootstrap_servers=task.bootstrap_servers,
            lanes=task.cells,
            own=(task.cell,),
            tables=(),
            streams=(task.topic,),
            clock=SystemClock(),
            stop=stop,
            # The jobs hold nothing for an epoch's end, and are not to wait for one.
            epoch_messages_max=task.messages,
            level=self.name,
        )

    def checker(self, settings: Settings) -> BlockChecker:
        return make_checker(settings, read_policy(settings))


class Words:
    """Numbers for words, from 0 in the order in which they come; one C loop for a column."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = defaultdict(count().__next__)

    def __len__(self) -> int:
        return len(self.numbers)

    def codes(self, words: Iterable[str], size: int) -> Codes:
        return np.fromiter(map(self.numbers.__getitem__, words), np.int64, size)

    def of(self, column: Coded) -> Codes:
        """The numbers of a column: each of its words is looked up once."""
        return self.codes(column.words, len(column.words))[column.codes]


class PureIds(Words):
    """The rows of people in a dict."""

    def rows(self, subjects: Sequence[str], places: Codes) -> Codes:
        return self.codes(columns_at(places.tolist(), len(subjects))(subjects), len(places))

    def subjects(self) -> list[str]:
        return list(self.numbers)


class NativeIds:
    """The rows of people in the library's table, outside Python's heap."""

    def __init__(self) -> None:
        self._ids: Any = load_native().Ids(7, None)

    def __len__(self) -> int:
        return len(self._ids)

    def rows(self, subjects: Sequence[str], places: Codes) -> Codes:
        return np.frombuffer(self._ids.rows(subjects, True, places), np.int64)

    def subjects(self) -> list[str]:
        return [self._ids[row].decode() for row in range(len(self._ids))]


class People:
    """One row of five counters for each person, in one array that grows by doubling."""

    def __init__(self, level: str) -> None:
        self.ids = NativeIds() if level == "native" else PureIds()
        self._counters: npt.NDArray[np.int32] = np.zeros((1_024, len(KINDS)), np.int32)

    def add(self, subjects: Sequence[str], places: Codes, kinds: Codes) -> None:
        rows = self.ids.rows(subjects, places)
        while len(self.ids) > len(self._counters):
            self._counters = np.concatenate([self._counters, np.zeros_like(self._counters)])
        np.add.at(self._counters.reshape(-1), rows * len(KINDS) + kinds, _ONE)

    def counters(self) -> npt.NDArray[np.int32]:
        return self._counters[: len(self.ids)]


class Job:
    """What one job does with each checked block of a lane, and what it found."""

    def __init__(self, job: str, level: str = "pure") -> None:
        self._job = job
        self.routed: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.rollup = Rollup()
        self._kinds = {name: number for number, name in enumerate(KINDS)}
        self._campaigns, self._channels = Words(), Words()
        # By positive or not, campaign and channel; the corpus has 50 and 4 of them.
        self._arm_counts: Codes = np.zeros(2 * WORDS_MAX, np.int64)
        self._changed: list[Codes] = []
        # By kind and campaign: no cell is dropped here, so a pair keeps its number.
        self._pair_numbers: Codes = np.full(len(KINDS) * WORDS_MAX, -1, np.int64)
        self.people = People(level)

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
            self._roll_up_and_follow(block, places)
        return routed

    def _roll_up_and_follow(self, block: CheckedBlock, places: Codes) -> None:
        tickets, bodies = block.tickets, block.bodies
        found = tickets.numbers[places]
        campaigns = self._campaigns.of(words_of(bodies, "campaign", places))
        number_of = self._kinds
        kinds = np.array([number_of[label.type] for label in tickets.labels], np.int64)[found]
        minutes = tickets.times_ms[places] // MINUTE_MS
        nothing = np.zeros(len(places), np.int64)
        self._changed.append(
            self.rollup.add(
                minutes=minutes,
                numbers=self._dimensions(kinds, campaigns),
                amounts=nothing,
                buckets=nothing,
                recorded=nothing,
            )
        )
        if self._job == "C":
            self.people.add(tickets.subjects, places, kinds)
            self._learn(campaigns, self._channels.of(words_of(bodies, "channel", places)), kinds)

    def _dimensions(self, kinds: Codes, campaigns: Codes) -> Codes:
        """The rollup's number of each message: dimensions are made once for each pair."""
        pairs = kinds * WORDS_MAX + campaigns
        found: Codes = self._pair_numbers[pairs]
        if found.min(initial=0) < 0:
            names = list(self._campaigns.numbers)
            for pair in np.unique(pairs[found < 0]).tolist():
                kind, campaign = KINDS[pair // WORDS_MAX], names[pair % WORDS_MAX]
                number = self.rollup.number_of(Dimensions(kind, campaign, "", "", ""))
                self._pair_numbers[pair] = number
            found = self._pair_numbers[pairs]
        return found

    def _learn(self, campaigns: Codes, channels: Codes, kinds: Codes) -> None:
        failed = _FAILED[kinds]
        flat = failed * WORDS_MAX + campaigns * len(CHANNELS) + channels
        self._arm_counts += np.bincount(flat, minlength=2 * WORDS_MAX)

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
        return self.people.counters().astype(np.int64)

    def arms(self) -> dict[str, Any]:
        """The arms that were seen: their campaign and channel, and how often they were right."""
        good, bad = self._arm_counts.reshape(2, -1)
        seen = np.flatnonzero(good + bad)
        campaigns, channels = list(self._campaigns.numbers), list(self._channels.numbers)
        return {
            "campaign": [campaigns[arm // len(CHANNELS)] for arm in seen.tolist()],
            "channel": [channels[arm % len(CHANNELS)] for arm in seen.tolist()],
            "good": good[seen],
            "bad": bad[seen],
        }

    def write(self, url: str) -> None:
        """Write cells, people and arms: three inserts."""
        insert(url, "cells", self.cells())
        users = self.users()
        counters = {f"k{number}": users[:, number] for number in range(len(KINDS))}
        insert(url, "users", {"subject": self.people.ids.subjects(), **counters})
        insert(url, "arms", self.arms())

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
            good, bad = arms["good"], arms["bad"]
            found["users"] = len(users)
            found["users_squares"] = int((users * users).sum(0) @ np.arange(1, len(KINDS) + 1))
            found["arms"] = len(good)
            found["arms_squares"] = int((good * good + 3 * bad * bad).sum())
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


def run(task: Task, make_level: Callable[[str], Level] = Level) -> None:
    level = make_level(task.level)
    meter, job = Meter(), Job(task.job, level.name)
    flow = build(task, level, job, meter)
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
