"""Read back everything that went in and came out, for the oracle."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from clickhouse_connect.driver.client import Client
from confluent_kafka import Consumer, IsolationLevel, KafkaError, Message, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._listoffsets import OffsetSpec

from schemas.errors import TransientError
from tests.chaos.oracle import (
    CANARY,
    INPUT_TOPICS,
    OUTPUT_TOPICS,
    ROUTED_TOPICS,
    Copy,
    Evidence,
    Place,
    Refusal,
    Told,
    carries_canary,
    checksum,
    code_of,
    origin_of,
    told_by,
)

LATEST: Final = OffsetSpec.latest()  # type: ignore[no-untyped-call] # the client has no annotations
READ_S_MAX: Final = 240.0
IDLE_S_MAX: Final = 30.0
ASK_S_MAX: Final = 20.0
TABLES: Final = ("facts", "quarantine", "fates", "rollup_1m_lanes")

FACTS_SQL: Final = """SELECT topic, part, off, event_id, event_type, source,
toUnixTimestamp64Milli(event_time), toUnixTimestamp64Milli(recorded_at), purpose, class, subject,
journey, cause, notification, campaign, tenant, channel, arm, reason, amount_minor, currency
FROM facts FINAL"""
CELLS_SQL: Final = """SELECT intDiv(toUnixTimestamp(w), 60), event_type, campaign, channel, class,
currency, arm, n, amount_minor, latency_hist FROM rollup_1m"""
FATES_SQL: Final = "SELECT topic, part, run, door, code, sum(n) FROM fates FINAL GROUP BY ALL"
REFUSED_SQL: Final = "SELECT topic, part, off, door, code FROM quarantine FINAL"


def partitions_of(admin: AdminClient, topics: Sequence[str]) -> list[TopicPartition]:
    """All partitions of some topics."""
    found = admin.list_topics(timeout=ASK_S_MAX).topics
    return [
        TopicPartition(topic, number)
        for topic in topics
        if topic in found
        for number in sorted(found[topic].partitions)
    ]


def ends_of(
    servers: str, topics: Sequence[str], level: IsolationLevel = IsolationLevel.READ_COMMITTED
) -> dict[tuple[str, int], int]:
    """The end of each partition, as consumers of an isolation level see it."""
    admin = AdminClient({"bootstrap.servers": servers})
    asked = dict.fromkeys(partitions_of(admin, topics), LATEST)
    answers = admin.list_offsets(asked, isolation_level=level, request_timeout=ASK_S_MAX)
    return {
        (part.topic, part.partition): answer.result(ASK_S_MAX).offset
        for part, answer in answers.items()
    }


def open_transactions(servers: str, topics: Sequence[str] = OUTPUT_TOPICS) -> list[tuple[str, int]]:
    """Partitions in which a transaction stands open: readers wait before its records."""
    stable = ends_of(servers, topics)
    whole = ends_of(servers, topics, IsolationLevel.READ_UNCOMMITTED)
    return sorted(place for place, end in whole.items() if stable[place] < end)


def read_all(servers: str, topics: Sequence[str], take: Callable[[Message], None]) -> None:
    """Hand over every committed record of some topics, each partition in its order.

    Errors: TransientError when nothing comes for `IDLE_S_MAX` before the ends are reached.
    """
    consumer = Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": "chaos.witness",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "error",
            "isolation.level": "read_committed",
        }
    )
    waiting = {place for place, end in ends_of(servers, topics).items() if end > 0}
    consumer.assign([TopicPartition(*place, 0) for place in sorted(waiting)])
    began_s = moved_s = time.monotonic()
    try:
        while waiting:
            now_s = time.monotonic()
            if now_s - moved_s > IDLE_S_MAX or now_s - began_s > READ_S_MAX:
                raise TransientError(do="read", kind="topics", found=f"{len(waiting)} unread")
            for message in consumer.consume(5_000, 0.2):
                moved_s = now_s
                _take_one(message, waiting, take)
    finally:
        consumer.close()


def _take_one(
    message: Message, waiting: set[tuple[str, int]], take: Callable[[Message], None]
) -> None:
    error = message.error()
    if error is None:
        # docs/guarantees.md: what only ends a transaction is to be left out.
        if all(name != "airside-control" for name, _ in headers_in(message)):
            take(message)
    elif error.code() == KafkaError._PARTITION_EOF:
        waiting.discard((message.topic() or "", message.partition() or 0))
    elif error.fatal() or error.code() == KafkaError._AUTO_OFFSET_RESET:
        raise TransientError(do="read", kind="topic", found=f"Kafka error {error.name()}")


def headers_in(message: Message) -> list[tuple[str, bytes | None]]:
    """The headers of a record."""
    given: Any = message.headers() or []
    return list(given)


def copy_of(message: Message) -> Copy:
    """What the oracle needs of an output record."""
    headers = headers_in(message)
    topic, value = message.topic() or "", message.value()
    routed = topic in ROUTED_TOPICS
    return Copy(
        topic=topic,
        partition=message.partition() or 0,
        offset=message.offset() or 0,
        origin=origin_of(headers),
        check=checksum(message.key(), value) if routed else 0,
        code="" if routed else code_of(value),
        leaks=carries_canary(message.key(), value, headers),
    )


def collect(servers: str, client: Client, logs: Sequence[Path]) -> tuple[Evidence, int]:
    """Read it all; gives the evidence, and how many planted values went in."""
    copies: list[Copy] = []
    read_all(servers, OUTPUT_TOPICS, lambda message: copies.append(copy_of(message)))
    routed = {copy.origin for copy in copies if copy.topic in ROUTED_TOPICS}
    inputs: dict[Place, int] = {}
    told: dict[Place, Told] = {}
    planted = 0

    def take(message: Message) -> None:
        nonlocal planted
        place = (message.topic() or "", message.partition() or 0, message.offset() or 0)
        headers, value = headers_in(message), message.value()
        inputs[place] = checksum(message.key(), value)
        planted += carries_canary(message.key(), value, headers)
        if place in routed:
            told[place] = told_by(headers, value, message.timestamp()[1])

    ends = ends_of(servers, INPUT_TOPICS)
    read_all(servers, INPUT_TOPICS, take)
    evidence = Evidence(
        inputs=inputs,
        ends=ends,
        told=told,
        copies=copies,
        refused=[Refusal(tuple(row[:3]), *row[3:]) for row in rows_of(client, REFUSED_SQL)],
        facts=[(tuple(row[:3]), Told(*row[3:])) for row in rows_of(client, FACTS_SQL)],
        cells=rows_of(client, CELLS_SQL),
        fates=rows_of(client, FATES_SQL),
        leaking_rows={table: leaking(client, table) for table in TABLES},
        leaking_log_lines=sum(_leaking_lines(log) for log in logs),
    )
    return evidence, planted


def rows_of(client: Client, sql: str) -> list[Any]:
    """The rows of a query."""
    table = client.query_arrow(sql, use_strings=True)
    return list(zip(*(column.to_pylist() for column in table.columns), strict=True))


def leaking(client: Client, table: str) -> int:
    """How many rows of a table carry a planted value."""
    sql = f"SELECT count() FROM {table} WHERE position(toString(tuple(*)), '{CANARY}') > 0"
    return int(client.query(sql).result_rows[0][0])


def _leaking_lines(log: Path) -> int:
    if not log.exists():
        return 0
    with log.open(errors="replace") as lines:
        return sum(CANARY in line for line in lines)
