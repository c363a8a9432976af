"""The pairing of requests and replies, once more in plain SQL, which shares nothing with ours."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import orjson
from hypothesis import given
from hypothesis import strategies as st

from flows.convert import convert

Row = tuple[int, str, str, int]
Reply = tuple[int, int, int]

REPLIES = """
WITH paired AS (
    SELECT q.line AS request, q.at AS asked, (
        SELECT n.line FROM log AS n
        WHERE n.sender = q.recipient AND n.recipient = q.sender
          AND (n.at > q.at OR (n.at = q.at AND n.line > q.line))
          AND n.at - q.at <= 86400
        ORDER BY n.at, n.line LIMIT 1
    ) AS reply
    FROM log AS q WHERE q.sender <> q.recipient
)
SELECT paired.request, paired.reply, log.at - paired.asked
FROM paired JOIN log ON log.line = paired.reply ORDER BY paired.request
"""


def replies_by_sql(rows: Iterable[Row]) -> list[Reply]:
    """Each answered row with the row that answers it, and the seconds between.

    Shapes: rows are `(line, sender, recipient, unix seconds)`.
    """
    with closing(sqlite3.connect(":memory:")) as db:
        db.execute("CREATE TABLE log (line INTEGER, sender TEXT, recipient TEXT, at INTEGER)")
        db.executemany("INSERT INTO log VALUES (?, ?, ?, ?)", rows)
        db.execute("CREATE INDEX by_pair ON log (sender, recipient, at, line)")
        return db.execute(REPLIES).fetchall()


def test_the_sql_itself_finds_the_next_message_back() -> None:
    rows = [
        (1, "ana", "bo", 0),
        (2, "ana", "bo", 10),
        (3, "bo", "cy", 20),
        (4, "bo", "ana", 30),
        (5, "bo", "ana", 40),
        (6, "ana", "bo", 40 + 86_401),
    ]

    assert [(1, 4, 30), (2, 4, 20)] == replies_by_sql(rows)


PEOPLE = st.sampled_from(["ana", "bo", "cy"])
TIMES = st.one_of(st.integers(0, 400_000), st.sampled_from([0, 86_399, 86_400, 86_401, 172_800]))


@given(st.lists(st.tuples(PEOPLE, PEOPLE, TIMES), max_size=40))
def test_any_log_gives_the_engagements_that_sql_finds(log: list[tuple[str, str, int]]) -> None:
    with TemporaryDirectory() as folder:
        source, target = Path(folder, "log.csv"), Path(folder, "events.jsonl")
        source.write_text("".join(f"{a},{b},{at}\n" for a, b, at in log))
        done = convert(source, target, key=b"a key of sixteen")
        events = [orjson.loads(line) for line in target.read_bytes().splitlines()]

    replies = [event for event in events if event["type"] == "ntf.engagement.replied.v1"]
    found = sorted(
        (line_of(event["causationid"]), line_of(event["data"]["provider_event_id"]))
        for event in replies
    )
    expected = replies_by_sql((line, *row) for line, row in enumerate(log, start=1))
    times = [event["time"] for event in events]

    assert [(request, reply) for request, reply, _ in expected] == found
    assert len(log) == done.requests == len(events) - done.engagements
    assert sorted(times) == times


def line_of(event_id: str) -> int:
    return int(event_id.split("-")[1])
