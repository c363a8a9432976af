"""Flink SQL on the JVM, one slot: the whole job as statements, no Python for any message.

The job runs twice in one JVM, and the second run counts: a cold one measures the compiler. What
its JSON format cannot read it drops, so refused messages have no reason here. The start and the
end of a job cannot be told from its messages: they are in the figures.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from pyflink.table import EnvironmentSettings, TableEnvironment

from tests.bench.meter import Meter, Task, leave, read_task, report
from tests.bench.tables import write_dicts
from tests.bench.work import Tally

KINDS: Final = ("seen", "opened", "clicked", "dismissed", "unsubscribed")
FIELDS: Final = (
    *("journey_id", "notification_id", "campaign", "tenant", "subject", "channel", "provider"),
    *("link_id", "scope"),
)
SETTINGS: Final = {
    "parallelism.default": "1",
    "pipeline.object-reuse": "true",
    "table.local-time-zone": "UTC",
    "table.exec.mini-batch.enabled": "true",
    "table.exec.mini-batch.allow-latency": "600 s",
    "table.exec.mini-batch.size": "1000000",
    "taskmanager.memory.network.max": "128mb",
}


def word(name: str) -> str:
    """A header as text."""
    return f"cast(headers['{name}'] as string)"


def source(task: Task) -> str:
    """The topic as a table, up to the offsets that it is known to have."""
    columns = ", ".join(f"`{name}` string" for name in FIELDS)
    ends = ";".join(f"partition:{number},offset:{end}" for number, end in task.ends.items())
    options = {
        "connector": "kafka",
        "topic": task.topic,
        "properties.bootstrap.servers": task.bootstrap_servers,
        "properties.group.id": f"bench-flink-{os.getpid()}",
        "scan.startup.mode": "earliest-offset",
        "scan.bounded.mode": "specific-offsets",
        "scan.bounded.specific-offsets": ends,
        "key.format": "raw",
        "key.fields": "k",
        "value.format": "json",
        "value.fields-include": "EXCEPT_KEY",
        "value.json.ignore-parse-errors": "true",
    }
    told = ", ".join(f"'{name}' = '{value}'" for name, value in options.items())
    moment = f"to_timestamp(replace(replace({word('ce_time')}, 'T', ' '), 'Z', ''))"
    return (
        f"create table src (k string, {columns}, `machine` boolean, "
        "headers map<string, bytes> metadata virtual, "
        "recorded timestamp(3) metadata from 'timestamp' virtual, "
        f"happened as {moment}, watermark for happened as happened - interval '60' minute) "
        f"with ({told})"
    )


def door(task: Task) -> str:
    """The destination of an accepted message, null of a refused one."""
    name = r"^[A-Za-z0-9_.:-]{1,64}$"
    short = "('campaign', 'purpose', 'channel', 'all')"
    channels = "('email', 'sms', 'push', 'web_push', 'in_app', 'chat', 'voice', 'postal')"
    own = (
        "kind in ('seen', 'dismissed')",
        "kind = 'opened' and `machine` is not null",
        "kind = 'clicked' and link_id is not null",
        f"kind = 'unsubscribed' and `scope` in {short}",
    )
    good = [
        f"{word('ce_specversion')} = '1.0'",
        f"{word('content-type')} = 'application/json'",
        f"regexp({word('ce_id')}, '^[A-Za-z0-9_-]{{8,64}}$')",
        f"regexp({word('ce_correlationid')}, '{name}')",
        f"regexp({word('ce_subject')}, '{name}')",
        f"regexp({word('ce_source')}, '^[A-Za-z0-9._~:/-]{{1,128}}$')",
        f"regexp({word('traceparent')}, '^00-[0-9a-f]{{32}}-[0-9a-f]{{16}}-[0-9a-f]{{2}}$')",
        "happened <= recorded + interval '5' minute",
        f"k = {word('ce_subject')}",
        f"journey_id = {word('ce_correlationid')}",
        f"subject = {word('ce_subject')}",
        *(f"char_length({part}) between 8 and 64" for part in ("journey_id", "notification_id")),
        *(f"char_length({part}) between 1 and 64" for part in ("campaign", "tenant", "provider")),
        f"channel in {channels}",
        f"({' or '.join(own)})",
    ]
    cases = []
    for label, topic in task.destinations.items():
        classes, purpose = label.split(" ")
        fits = f"{word('ce_dataclassification')} = '{classes}' "
        fits += f"and {word('ce_datapurpose')} = '{purpose}'"
        if classes != "INTERNAL":
            fits += " and headers['ce_datacategory'] is not null"
        cases.append(f"when {fits} then '{topic}'")
    return f"case when ({' and '.join(good)}) is not true then null {' '.join(cases)} end"


class Job:
    """The statements of one job; sinks that count print into the file that the JVM's output is."""

    def __init__(self, task: Task, printed: Path) -> None:
        self._task = task
        self._printed = printed
        self._tables = TableEnvironment.create(EnvironmentSettings.in_streaming_mode())
        jars = ";".join(path.as_uri() for path in Path(sys.prefix, "jars").glob("*.jar"))
        settings = self._tables.get_config()
        for name, value in {**SETTINGS, "pipeline.jars": jars}.items():
            settings.set(name, value)
        kind = f"split_index({word('ce_type')}, '.', 2)"
        self._ask(source(task))
        self._ask(f"create temporary view kinds as select *, {kind} as kind from src")
        self._ask(f"create temporary view v as select *, {door(task)} as door from kinds")
        columns = ", ".join(f"`{name}` string" for name in (*FIELDS, "door"))
        self._ask(
            f"create table nowhere ({columns}, headers map<string, bytes>) "
            "with ('connector' = 'blackhole')"
        )
        self._make_print("doors", "door string, n bigint")
        self._make_print("cells", "w timestamp(3), campaign string, kind string, n bigint")
        people = ", ".join(f"{name} bigint" for name in KINDS)
        self._make_print("users", f"subject string, {people}")
        self._make_print("arms", "campaign string, channel string, good bigint, bad bigint")

    def _ask(self, statement: str) -> None:
        self._tables.execute_sql(statement)

    def _make_print(self, name: str, columns: str) -> None:
        self._ask(
            f"create table {name} ({columns}) "
            f"with ('connector' = 'print', 'print-identifier' = '{name}')"
        )

    def play(self) -> None:
        """Run the job to its end."""
        job = self._task.job
        work = self._tables.create_statement_set()
        columns = ", ".join(f"`{name}`" for name in (*FIELDS, "door", "headers"))
        for topic in sorted(set(self._task.destinations.values())):
            work.add_insert_sql(f"insert into nowhere select {columns} from v where door='{topic}'")
        work.add_insert_sql(f"insert into nowhere select {columns} from v where door is null")
        work.add_insert_sql("insert into doors select door, count(*) from v group by door")
        good = "from v where door is not null"
        if job in "BC":
            work.add_insert_sql(
                "insert into cells select window_start, campaign, kind, count(*) from "
                "table(tumble(table v, descriptor(happened), interval '1' minute)) "
                "where door is not null group by window_start, window_end, campaign, kind"
            )
        if job == "C":
            counts = ", ".join(f"count(*) filter (where kind = '{name}')" for name in KINDS)
            liked = "kind in ('opened', 'clicked')"
            work.add_insert_sql(
                f"insert into users select subject, {counts} {good} group by subject"
            )
            work.add_insert_sql(
                f"insert into arms select campaign, channel, count(*) filter (where {liked}), "
                f"count(*) filter (where not {liked}) {good} group by campaign, channel"
            )
        work.execute().wait()

    def read(self, offset: int) -> Tally:
        """What was printed from there on; the last word on each key counts."""
        tally = Tally()
        with self._printed.open() as lines:
            lines.seek(offset)
            for line in lines:
                name, _, rest = line.rstrip().partition("> ")
                if rest[:3] in ("+I[", "+U["):
                    _keep(tally, name, rest[3:-1].split(", "))
        tally.refused["unexplained"] = self._task.messages - tally.routed.total()
        return tally


def _keep(tally: Tally, name: str, values: list[str]) -> None:
    if name == "doors" and values[0] != "null":
        tally.routed[values[0]] = int(values[1])
    elif name == "cells":
        start = datetime.fromisoformat(values[0]).replace(tzinfo=UTC)
        minute = int(start.timestamp()) // 60
        tally.cells[minute, values[1], KINDS.index(values[2])] = int(values[3])
    elif name == "users":
        tally.users[values[0]] = [int(value) for value in values[1:]]
    elif name == "arms":
        tally.arms[values[0], values[1]] = [int(value) for value in values[2:]]


def children() -> tuple[int, ...]:
    """The JVM that we started."""
    ours = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return tuple(map(int, ours))


def run(task: Task) -> None:
    with tempfile.NamedTemporaryFile() as printed:
        # The JVM inherits standard output: its print sinks go to this file, our report does not.
        kept = os.dup(1)
        os.dup2(printed.fileno(), 1)
        place = Path(printed.name)
        job = Job(task, place)
        os.dup2(kept, 1)
        job.play()
        offset = place.stat().st_size
        meter: Any = Meter(children())
        meter.begin()
        job.play()
        tally = job.read(offset)
        if task.job == "C":
            write_dicts(task.clickhouse_url, tally.cells, tally.users, tally.arms)
        measured = meter.end()
        jars = sorted(path.stem for path in Path(sys.prefix, "jars").glob("*.jar"))
        versions = {"apache-flink": version("apache-flink"), "jars": json.dumps(jars)}
        report(measured, tally.counts(task.job), versions)
        leave()


if __name__ == "__main__":
    run(read_task())
