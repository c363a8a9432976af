"""Pathway: its Kafka reader and its reducers; the check is a Python function of its tables.

Headers arrive as base64 within JSON, since that is how its reader gives them.
"""

from __future__ import annotations

import base64
import threading
import uuid
from importlib.metadata import version
from typing import Any

import pathway as pw

from tests.bench.meter import Meter, Task, leave, read_task, report
from tests.bench.tables import write_dicts
from tests.bench.work import KINDS, POSITIVE, Event, Judge, Tally


class Job:
    """The tables of one job, and what it found.

    The stream has no end: the job is over once every message was counted and all that was to be
    told of that moment has been told.
    """

    def __init__(self, task: Task) -> None:
        self.task = task
        self.tally = Tally()
        self._meter = Meter()
        self._judge = Judge(task.destinations).judge
        self._parts = 0
        self._ended: dict[int, int] = {}
        self._full_at: int | None = None
        self._lock = threading.Lock()
        rows = self._read()
        self._total(rows)
        refused = rows.filter(pw.this.kind < 0)
        self._subscribe(refused, self._refuse)
        good = rows.filter(pw.this.kind >= 0)
        for name in sorted(set(task.destinations.values())):
            self._subscribe(good.filter(pw.this.door == name), self._route)
        if task.job in "BC":
            self._roll_up(good)
        if task.job == "C":
            self._follow(good)

    def _read(self) -> Any:
        judge, meter = self._judge, self._meter

        def decide(key: bytes, value: bytes, about: pw.Json) -> tuple[str, int, int, str, str, str]:
            meter.begin()
            told = about.as_dict()
            headers = [(name, base64.b64decode(text)) for name, text in told["headers"]]
            found = judge(key, value, headers, told["timestamp_millis"])
            if isinstance(found, Event):
                who = (found.subject, found.campaign, found.channel)
                return (found.destination, found.kind, found.minute, *who)
            return (found, -1, 0, "", "", "")

        settings = {
            "bootstrap.servers": self.task.bootstrap_servers,
            "group.id": f"bench-pathway-{uuid.uuid4().hex}",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": "false",
            "fetch.queue.backoff.ms": "2",
        }
        source = pw.io.kafka.read(
            settings, self.task.topic, format="raw", with_metadata=True, autogenerate_key=True
        )
        decided = pw.udf(decide)(pw.this.key, pw.this.data, pw.this._metadata)
        judged = source.select(found=decided)
        names = ("door", "kind", "minute", "subject", "campaign", "channel")
        return judged.select(**{name: pw.this.found[place] for place, name in enumerate(names)})

    def _subscribe(self, table: Any, take: Any) -> None:
        part = self._parts
        self._parts += 1

        def on_change(key: Any, row: dict[str, Any], time: int, is_addition: bool) -> None:  # noqa: FBT001 - its callback
            if is_addition:
                take(row, time)

        def on_time_end(time: int) -> None:
            self._note_end(part, time)

        pw.io.subscribe(table, on_change=on_change, on_time_end=on_time_end)

    def _note_end(self, part: int, time: int) -> None:
        with self._lock:
            self._ended[part] = time
            full = self._full_at
            if full is None or len(self._ended) < self._parts:
                return
            if min(self._ended.values()) >= full:
                self._end()

    def _total(self, rows: Any) -> None:
        def take(row: dict[str, Any], time: int) -> None:
            if row["n"] == self.task.messages:
                self._full_at = time

        self._subscribe(rows.reduce(n=pw.reducers.count()), take)

    def _refuse(self, row: dict[str, Any], _time: int) -> None:
        self.tally.refused[row["door"]] += 1

    def _route(self, row: dict[str, Any], _time: int) -> None:
        self.tally.routed[row["door"]] += 1

    def _roll_up(self, good: Any) -> None:
        def take(row: dict[str, Any], _time: int) -> None:
            self.tally.cells[row["minute"], row["campaign"], row["kind"]] = row["n"]

        by = (pw.this.minute, pw.this.campaign, pw.this.kind)
        self._subscribe(good.groupby(*by).reduce(*by, n=pw.reducers.count()), take)

    def _follow(self, good: Any) -> None:
        def take_person(row: dict[str, Any], _time: int) -> None:
            self.tally.users[row["subject"]] = [row[f"k{number}"] for number in range(len(KINDS))]

        def take_arm(row: dict[str, Any], _time: int) -> None:
            self.tally.arms[row["campaign"], row["channel"]] = [row["good"], row["n"] - row["good"]]

        counters = {
            f"k{number}": pw.reducers.sum(pw.cast(int, pw.this.kind == number))
            for number in range(len(KINDS))
        }
        people = good.groupby(pw.this.subject).reduce(pw.this.subject, **counters)
        self._subscribe(people, take_person)
        first, second = sorted(POSITIVE)
        liked = pw.cast(int, (pw.this.kind == first) | (pw.this.kind == second))
        by = (pw.this.campaign, pw.this.channel)
        arms = good.groupby(*by).reduce(*by, good=pw.reducers.sum(liked), n=pw.reducers.count())
        self._subscribe(arms, take_arm)

    def _end(self) -> None:
        tally, job = self.tally, self.task.job
        if job == "C":
            write_dicts(self.task.clickhouse_url, tally.cells, tally.users, tally.arms)
        measured = self._meter.end()
        names = ("pathway", "msgspec")
        report(measured, tally.counts(job), {name: version(name) for name in names})
        leave()


def run(task: Task) -> None:
    Job(task)
    pw.run(monitoring_level=pw.MonitoringLevel.NONE)


if __name__ == "__main__":
    run(read_task())
