"""Quix Streams: a streaming dataframe over bytes; the state of people in its RocksDB store.

The rollup and the arms stay in dicts beside the frame: their keys are not the topic's, and
`group_by` would send every event through a topic once more. That is less work, not more.
"""

from __future__ import annotations

import tempfile
import uuid
from importlib.metadata import version
from typing import Any

from quixstreams import Application, State

from tests.bench.meter import Meter, Task, leave, read_task, report
from tests.bench.tables import write_dicts
from tests.bench.work import POSITIVE, Event, Judge, Tally

QUIET_S_MAX = 60.0


class Job:
    """The frame of one job, and what it found."""

    def __init__(self, task: Task, meter: Meter, application: Any, topic: Any) -> None:
        self.tally = Tally()
        self._application = application
        self._left = task.messages
        frame = application.dataframe(topic)
        self._meter = meter
        self._judge = Judge(task.destinations).judge
        judged = frame.apply(self._decide, metadata=True)
        refused = judged[judged.apply(lambda item: isinstance(item, str))]
        refused.update(self._refuse)
        good = judged[judged.apply(lambda item: not isinstance(item, str))]
        for name in sorted(set(task.destinations.values())):
            one = good[good.apply(lambda event, name=name: event.destination == name)]
            one.update(self._route)
        if task.job in "BC":
            good = good.update(self._roll_up)
        if task.job == "C":
            good.update(self._follow, stateful=True).update(self._learn)

    def _decide(self, value: bytes, key: bytes, at_ms: int, headers: Any) -> Event | str:
        self._meter.begin()
        self._left -= 1
        if not self._left:
            # Its own count is one of outputs; after a stop it still ends this message.
            self._application.stop()
        return self._judge(key, value, headers, at_ms)

    def _refuse(self, code: str) -> None:
        self.tally.refused[code] += 1

    def _route(self, event: Event) -> None:
        self.tally.routed[event.destination] += 1

    def _roll_up(self, event: Event) -> None:
        cell = (event.minute, event.campaign, event.kind)
        self.tally.cells[cell] = self.tally.cells.get(cell, 0) + 1

    def _follow(self, event: Event, state: State) -> None:
        counters = state.get("counters") or [0] * 5
        counters[event.kind] += 1
        state.set("counters", counters)
        self.tally.users[event.subject] = counters

    def _learn(self, event: Event) -> None:
        arm = self.tally.arms.setdefault((event.campaign, event.channel), [0, 0])
        arm[0 if event.kind in POSITIVE else 1] += 1


def run(task: Task) -> None:
    meter = Meter()
    with tempfile.TemporaryDirectory() as folder:
        application = Application(
            broker_address=task.bootstrap_servers,
            consumer_group=f"bench-quix-{uuid.uuid4().hex}",
            auto_offset_reset="earliest",
            state_dir=folder,
            use_changelog_topics=False,
            loglevel="WARNING",
            consumer_extra_config={"fetch.queue.backoff.ms": 2, "allow.auto.create.topics": False},
        )
        topic = application.topic(task.topic, value_deserializer="bytes", key_deserializer="bytes")
        # The embedded broker does not tell it, and stores ask for it.
        topic.broker_config.extra_config.setdefault("retention.ms", "-1")
        job = Job(task, meter, application, topic)
        application.run(timeout=QUIET_S_MAX)
        tally = job.tally
        if task.job == "C":
            write_dicts(task.clickhouse_url, tally.cells, tally.users, tally.arms)
        measured = meter.end()
        names = ("quixstreams", "confluent-kafka", "msgspec")
        report(measured, tally.counts(task.job), {name: version(name) for name in names})
        leave()


if __name__ == "__main__":
    run(read_task())
