"""Clusters of people in a running ClickHouse: rows replace themselves, and who may see what."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import numpy as np
import orjson
import pytest
import structlog
from clickhouse_connect.driver.client import Client
from confluent_kafka import Producer

from connectors.clickhouse.client import ClickHouseAddress, connect
from connectors.clickhouse.reader import read_rows
from connectors.clickhouse.writer import TableWriter
from flows.__main__ import main
from flows.timing.clusters import Groups, cluster_rows
from flows.timing.show_clusters import SQL
from schemas.ticket import format_time
from tests.ingest_process import decided, wait_decided
from tests.integration.test_ingest import Rig, closing, embedded_rig
from tests.integration.test_timing import AllProcess
from tests.messages import HOUR_MS, Message, profile, with_header
from tests.timing_world import MINUTE_MS, person, reacted, sent

__all__ = ["closing", "embedded_rig"]

HOURS = np.arange(24)
DAYS = 30 * 86_400


@pytest.fixture
def client(
    clickhouse_tables: ClickHouseAddress, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Client]:
    monkeypatch.setenv("AIRSIDE_KAFKA__BOOTSTRAP_SERVERS", "-")
    monkeypatch.setenv("AIRSIDE_CLICKHOUSE__URL", clickhouse_tables.url)
    monkeypatch.setenv("AIRSIDE_CLICKHOUSE__DATABASE", clickhouse_tables.database)
    opened = connect(clickhouse_tables)
    yield opened
    opened.close()
    structlog.reset_defaults()  # a command logs to the output that pytest takes away again


def write(
    client: Client, people: list[int], peaks: list[int], *, lane: int, at_ms: int, people_min: int
) -> None:
    """What a lane would write of clusters with a bump each."""
    hours = np.array([np.exp(3 * np.cos((HOURS - peak) * np.pi / 12)) for peak in peaks])
    counts = np.array(people, np.float64)
    shares = hours / hours.sum(axis=1, keepdims=True)
    groups = Groups(shares, counts, counts, counts * 4, counts)
    writer = TableWriter(client)
    writer.add(
        cluster_rows(
            groups, lane=lane, at_ms=at_ms, learned=250, people_min=people_min, kept_s=DAYS
        )
    )
    writer.flush()


def shown(client: Client, k: int) -> list[tuple[Any, ...]]:
    """Lane, number and people of each cluster."""
    lines = read_rows(client, SQL, {"k": k}, name="rhythm_clusters")
    return [(lane, number, people) for lane, number, _, _, people, *_ in lines]


def test_the_newest_of_each_lane_is_shown_and_a_repeat_changes_nothing(client: Client) -> None:
    now_ms = time.time_ns() // 1_000_000
    for at_ms in (now_ms, now_ms - HOUR_MS, now_ms):
        people = [30, 20] if at_ms == now_ms else [9_000, 8_000]
        write(client, people, [20, 8], lane=1, at_ms=at_ms, people_min=0)
    write(client, [5, 300], [19, 7], lane=0, at_ms=now_ms, people_min=10)

    assert [(0, 1, 300), (1, 1, 20), (1, 2, 30)] == shown(client, 0)
    [(share, peaks, rate)] = client.query(
        "SELECT people_share, peak_hours, response_rate FROM rhythm_clusters_of_groups(k=0)"
        " WHERE lane = 1 AND cluster = 1"
    ).result_rows
    assert (0.4, [7, 8, 9], 0.25) == (share, list(peaks), rate)


def test_a_cluster_of_fewer_people_than_a_role_may_see_is_nowhere(client: Client) -> None:
    """Not in the table, by the strictest role when it was written, nor in the view for others."""
    now_ms = time.time_ns() // 1_000_000
    write(client, [9, 10, 11, 500], [2, 8, 14, 20], lane=0, at_ms=now_ms, people_min=10)

    stored = client.query("SELECT people, length(hours) FROM rhythm_clusters FINAL").result_rows
    assert [(0, 0), (10, 24), (11, 24), (500, 24)] == sorted(tuple(row) for row in stored)
    assert [10, 11, 500] == [people for *_, people in shown(client, 0)]
    assert [11, 500] == [people for *_, people in shown(client, 11)]
    assert [] == shown(client, 501)


def test_the_command_puts_lanes_together_and_tells_them_apart(
    client: Client, capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(*words: str) -> bytes:
        assert 0 == main(["timing", "clusters", *words])
        return capfdbinary.readouterr().out

    assert b"no clusters: " in told()
    assert b"[]\n" == told("--json")
    now_ms = time.time_ns() // 1_000_000
    write(client, [30, 70], [8, 20], lane=0, at_ms=now_ms, people_min=10)
    write(client, [30, 20, 12], [8, 20, 2], lane=1, at_ms=now_ms, people_min=10)

    night, first, second = orjson.loads(told("--json"))
    assert ([1], 12, [1, 2, 3]) == (night["lanes"], night["people"], night["peak_hours"])
    assert ([0, 1], 60, [7, 8, 9]) == (first["lanes"], first["people"], first["peak_hours"])
    assert ([0, 1], 90, 360, 90) == tuple(
        second[name] for name in ("lanes", "people", "sends", "responses")
    )
    table = told().decode().splitlines()
    assert ["2", "60", "37.0", "%", "25.0", "%"] == table[2].split()[:6]
    assert ["7-9", "0.00"] == table[2].split()[-2:]
    assert "162 people of 2 lanes, with 648 sends" in table[-1]
    assert all(len(line) <= 80 for line in table[:-1])
    by_lane = told("--by-lane", "--role", "analyst").decode().splitlines()
    assert [["0", "1"], ["0", "2"], ["1", "1"], ["1", "2"], ["1", "3"]] == [
        line.split()[:2] for line in by_lane[1:-1]
    ]


def hand_in(rig: Rig, *messages: Message) -> None:
    """Send messages, and wait until each has its door."""
    before = decided(rig.client)
    producer = Producer({"bootstrap.servers": rig.servers, "linger.ms": 5})
    for message in messages:
        headers: Any = message.headers
        producer.produce(message.topic, message.value, message.key, headers=headers)
    producer.flush(30)
    wait_decided(rig.client, before + len(messages), rig.ingest)


@pytest.mark.embedded_kafka
def test_a_running_flow_tells_its_clusters_and_the_command_prints_them(embedded_rig: Rig) -> None:
    """People of two times of the day, then a negative that lets the lane publish."""
    rig = embedded_rig
    rig.ingest.flow = AllProcess.flow
    rig.ingest.environment |= {"AIRSIDE_LANES": "1", "AIRSIDE_TIMING__WINDOW_S": "1800"}
    now_ms = time.time_ns() // 1_000_000
    told_at = format_time(now_ms - 20 * HOUR_MS)
    people = range(1, 241)
    rig.ingest.start()
    hand_in(
        rig,
        *(
            with_header(profile(n, subject=person(n), zone="UTC"), "ce_time", told_at)
            for n in people
        ),
        *(
            reacted(
                1_000 * turn + n,
                at_ms=now_ms - (6 + n % 2 * 12) * HOUR_MS + (turn * 20 + n % 7) * MINUTE_MS,
                subject=person(n),
            )
            for turn in range(6)
            for n in people
        ),
        sent(90_001, at_ms=now_ms - HOUR_MS, subject=person(1)),
    )
    hand_in(rig, sent(90_002, at_ms=now_ms, subject=person(2)))
    assert 0 == rig.ingest.stop()

    lines = shown(rig.client, 10)
    assert {0} == {lane for lane, *_ in lines}
    assert 240 == sum(count for *_, count in lines)
    told = orjson.loads(rig.ingest.command("timing", "clusters", "--json", "--role", "analyst"))
    assert 240 == sum(one["people"] for one in told)
    hours = {hour for one in told for hour in one["peak_hours"]}
    early, late = (datetime.fromtimestamp(now_ms / 1_000 - back * 3_600, UTC) for back in (17, 5))
    assert {early.hour, late.hour} <= hours
    table = rig.ingest.command("timing", "clusters")
    assert "240 people of 1 lane" in table
    assert "\N{FULL BLOCK}" in table
    assert "usr_" not in table
