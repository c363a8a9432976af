"""Idiomatic Bytewax: its KafkaSource, one item for each message, its operators and windows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from typing import Any

import bytewax.operators as op
import bytewax.operators.windowing as win
from bytewax.connectors.kafka import KafkaSource
from bytewax.dataflow import Dataflow, Stream
from bytewax.inputs import StatefulSourcePartition
from bytewax.operators import KeyedStream
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.testing import run_main

from tests.bench.meter import Meter, Task, leave, read_task, report
from tests.bench.tables import write_dicts
from tests.bench.work import POSITIVE, Event, Judge, Tally

BATCH = 1_000
LONGEST = timedelta(minutes=30)


class BoundedPart(StatefulSourcePartition[Any, Any]):
    """One partition of the library's source, which ends after so many messages.

    The embedded broker tells end offsets short, so the library's own end cannot be used.
    """

    def __init__(self, part: StatefulSourcePartition[Any, Any], messages: int) -> None:
        self._part = part
        self._left = messages

    def next_batch(self) -> Iterable[Any]:
        if not self._left:
            raise StopIteration
        batch = list(self._part.next_batch())
        self._left -= len(batch)
        return batch

    def snapshot(self) -> Any:
        return self._part.snapshot()

    def close(self) -> None:
        self._part.close()


class BoundedSource(KafkaSource):
    """The library's source over a topic whose contents are known."""

    def __init__(self, task: Task) -> None:
        super().__init__(
            [task.bootstrap_servers],
            [task.topic],
            tail=True,
            batch_size=BATCH,
            add_config={"fetch.queue.backoff.ms": "2"},
        )
        self._ends = task.ends

    def build_part(self, step_id: str, for_part: str, resume_state: Any) -> Any:
        part = super().build_part(step_id, for_part, resume_state)
        return BoundedPart(part, self._ends[int(for_part.partition("-")[0])])


class _Into(StatelessSinkPartition[Any]):
    def __init__(self, take: Callable[[list[Any]], None]) -> None:
        self._take = take

    def write_batch(self, items: list[Any]) -> None:
        self._take(items)


class Into(DynamicSink[Any]):
    """Hand every batch to a function."""

    def __init__(self, take: Callable[[list[Any]], None]) -> None:
        self._take = take

    def build(self, _step_id: str, _worker_index: int, _worker_count: int) -> _Into:
        return _Into(self._take)


class Job:
    """The dataflow of one job, and what it found."""

    def __init__(self, task: Task, meter: Meter) -> None:
        self.tally = Tally()
        self._meter = meter
        self._judge = Judge(task.destinations).judge
        self.flow = Dataflow("bench")
        source = op.input("read", self.flow, BoundedSource(task))
        judged = op.map("judge", source, self._decide)
        good, bad = self._split(judged)
        op.output("refuse", bad, Into(self.tally.refused.update))
        self._route(good, sorted(set(task.destinations.values())))
        if task.job in "BC":
            self._count_by_minute(good)
        if task.job == "C":
            self._follow_people(good)

    def _decide(self, message: Any) -> Event | str:
        self._meter.begin()
        at_ms = message.timestamp[1]
        return self._judge(message.key, message.value, message.headers, at_ms)

    def _split(self, judged: Stream[Event | str]) -> tuple[Stream[Event], Stream[str]]:
        parts = op.branch("is_good", judged, lambda item: not isinstance(item, str))
        return parts.trues, parts.falses  # type: ignore[return-value] # told apart by the branch

    def _route(self, good: Stream[Event], destinations: list[str]) -> None:
        rest = good
        for number, topic in enumerate(destinations):
            parts: Any = op.branch(f"is_for_{number}", rest, _is_for(topic))
            op.output(f"route_{number}", parts.trues, Into(self._count_routed(topic)))
            rest = parts.falses

    def _count_routed(self, topic: str) -> Callable[[list[Event]], None]:
        def take(events: list[Event]) -> None:
            self.tally.routed[topic] += len(events)

        return take

    def _count_by_minute(self, good: Stream[Event]) -> None:
        clock: win.EventClock[Event] = win.EventClock(
            ts_getter=lambda event: datetime.fromtimestamp(event.minute * 60, UTC),
            wait_for_system_duration=LONGEST,
        )
        minutes = win.TumblingWindower(
            length=timedelta(minutes=1), align_to=datetime(1970, 1, 1, tzinfo=UTC)
        )
        counted = win.count_window(
            "count_minute", good, clock, minutes, key=lambda event: f"{event.campaign}|{event.kind}"
        )
        op.output("write_minute", counted.down, Into(self._keep_cells))

    def _keep_cells(self, items: list[tuple[str, tuple[int, int]]]) -> None:
        for key, (minute, count) in items:
            campaign, kind = key.split("|")
            self.tally.cells[minute, campaign, int(kind)] = count

    def _follow_people(self, good: Stream[Event]) -> None:
        people: KeyedStream[Event] = op.key_on("key_person", good, lambda event: event.subject)
        states = op.stateful_map("count_person", people, _count_kind)
        op.output("write_person", states, Into(self.tally.users.update))
        arms = op.key_on("key_arm", good, lambda event: f"{event.campaign}|{event.channel}")
        learned = op.stateful_map("learn_arm", arms, _learn)
        op.output("write_arm", learned, Into(self._keep_arms))

    def _keep_arms(self, items: list[tuple[str, list[int]]]) -> None:
        for key, counts in items:
            campaign, channel = key.split("|")
            self.tally.arms[campaign, channel] = counts


def _is_for(topic: str) -> Any:
    return lambda event: event.destination == topic


def _count_kind(state: list[int] | None, event: Event) -> tuple[list[int], list[int]]:
    state = state or [0] * 5
    state[event.kind] += 1
    return state, state


def _learn(state: list[int] | None, event: Event) -> tuple[list[int], list[int]]:
    state = state or [0, 0]
    state[0 if event.kind in POSITIVE else 1] += 1
    return state, state


def run(task: Task) -> None:
    meter = Meter()
    job = Job(task, meter)
    run_main(job.flow)
    tally = job.tally
    if task.job == "C":
        write_dicts(task.clickhouse_url, tally.cells, tally.users, tally.arms)
    measured = meter.end()
    versions = {name: version(name) for name in ("bytewax", "confluent-kafka", "msgspec")}
    report(measured, tally.counts(task.job), versions)


if __name__ == "__main__":
    run(read_task())
    leave()
