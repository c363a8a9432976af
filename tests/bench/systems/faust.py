"""faust-streaming: one agent over events; cells, people and arms in its in-memory tables.

Its tables produce a changelog for every change: that is how it keeps state.
"""

from __future__ import annotations

import tempfile
import uuid
from importlib.metadata import version
from typing import Any

import faust

from tests.bench.meter import Meter, Task, leave, read_task, report
from tests.bench.tables import write_dicts
from tests.bench.work import POSITIVE, Event, Judge, Tally


class Job:
    """The agent of one job, and what it found."""

    def __init__(self, task: Task, application: Any) -> None:
        self.task = task
        self.tally = Tally()
        self._meter = Meter()
        self._judge = Judge(task.destinations).judge
        parts = len(task.ends)
        if task.job in "BC":
            self._cells = application.Table("cells", default=int, partitions=parts)
        if task.job == "C":
            self._users = application.Table("users", default=list, partitions=parts)
            self._arms = application.Table("arms", default=list, partitions=parts)

    async def take(self, stream: Any) -> None:
        """Read until every message was seen, then report."""
        tally, seen = self.tally, 0
        async for event in stream.events():
            self._meter.begin()
            message = event.message
            found = self._judge(
                message.key, message.value, message.headers, int(message.timestamp * 1_000)
            )
            seen += 1
            if isinstance(found, str):
                tally.refused[found] += 1
            else:
                tally.routed[found.destination] += 1
                if self.task.job in "BC":
                    self._count(found)
            if seen >= self.task.messages:
                self._end()

    def _count(self, event: Event) -> None:
        cell = f"{event.minute}|{event.campaign}|{event.kind}"
        self._cells[cell] += 1
        if self.task.job == "C":
            counters = self._users[event.subject] or [0] * 5
            counters[event.kind] += 1
            self._users[event.subject] = counters
            arm = f"{event.campaign}|{event.channel}"
            counts = self._arms[arm] or [0, 0]
            counts[0 if event.kind in POSITIVE else 1] += 1
            self._arms[arm] = counts

    def _end(self) -> None:
        tally, job = self.tally, self.task.job
        if job in "BC":
            for key, count in self._cells.items():
                minute, campaign, kind = key.split("|")
                tally.cells[int(minute), campaign, int(kind)] = count
        if job == "C":
            tally.users = dict(self._users.items())
            for key, counts in self._arms.items():
                campaign, channel = key.split("|")
                tally.arms[campaign, channel] = counts
            write_dicts(self.task.clickhouse_url, tally.cells, tally.users, tally.arms)
        measured = self._meter.end()
        names = ("faust-streaming", "aiokafka", "msgspec")
        report(measured, tally.counts(job), {name: version(name) for name in names})
        leave()


def run(task: Task) -> None:
    with tempfile.TemporaryDirectory() as folder:
        application = faust.App(
            f"bench-faust-{uuid.uuid4().hex}",
            broker=f"kafka://{task.bootstrap_servers}",
            store="memory://",
            datadir=folder,
            topic_partitions=len(task.ends),
            consumer_auto_offset_reset="earliest",
            stream_wait_empty=False,
            topic_disable_leader=True,
            broker_max_poll_records=2_000,
            table_standby_replicas=0,
            web_enabled=False,
        )
        topic = application.topic(
            task.topic, value_type=bytes, key_type=bytes, value_serializer="raw"
        )
        application.agent(topic)(Job(task, application).take)
        faust.Worker(application, loglevel="warn").execute_from_commandline()


if __name__ == "__main__":
    run(read_task())
