"""Delivery times on a running Kafka and ClickHouse, killed and started again."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from connectors.embedded.clickhouse import EmbeddedClickHouse
from flows.places import POLICY
from flows.timing.share import Shard
from schemas.policy import load_policy
from tests.ingest_process import IngestProcess
from tests.integration.test_ingest import Rig
from tests.services import Breakable

QUIET_S = 3.0


class AllProcess(IngestProcess):
    """The gate and everything behind it."""

    flow = "all"


class TimingRig(Rig):
    """A rig whose process decides delivery times, too; what it publishes it may repeat."""

    process = AllProcess
    more: Mapping[str, str] = {
        "AIRSIDE_TIMING__WINDOW_S": "600",
        "AIRSIDE_TIMING__PUBLISH_S": "1",
        "AIRSIDE_TIMING__RESULTS_S": "60",
    }


@pytest.fixture
def rig(breakable_kafka: Breakable, tmp_path: Path) -> Iterator[TimingRig]:
    with ExitStack() as stack:
        clickhouse = stack.enter_context(EmbeddedClickHouse(data_dir=tmp_path, faults=True))
        servers = breakable_kafka.bootstrap_servers
        made = TimingRig(tmp_path, servers, clickhouse, "at_least_once")
        stack.callback(made.close)
        yield made


def read_all(servers: str, topic: str) -> list[tuple[dict[str, bytes], bytes]]:
    """All messages of a topic: headers and body."""
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "test"})
    parts = consumer.list_topics(topic, timeout=10).topics[topic].partitions
    consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in parts])
    found = []
    quiet_s = time.monotonic() + QUIET_S
    while time.monotonic() < quiet_s:
        for message in consumer.consume(500, 0.2):
            assert message.error() is None
            headers: Any = dict(message.headers() or ())
            found.append((headers, message.value() or b""))
            quiet_s = time.monotonic() + QUIET_S
    consumer.close()
    return found


def test_kills_repeat_decisions_and_models_word_for_word(rig: TimingRig) -> None:
    world = rig.world(9_000)
    with rig.sending(world, rate=700) as streaming:
        rig.ingest.start()
        assert streaming.wait(120)
        rig.ingest.kill()
        # Killed while an epoch's state is saved: its decisions are out, and it is repeated. Or
        # while rows are on their way behind the flow: the next start has to bring them.
        for point in ("in_snapshot:9", "before_insert:5", "in_snapshot:7", "after_insert:3"):
            rig.ingest.environment["AIRSIDE_CRASH_AT"] = point
            assert -9 == rig.ingest.run_to_the_end()
        del rig.ingest.environment["AIRSIDE_CRASH_AT"]
        rig.ingest.start()
    rig.wait()
    assert 0 == rig.ingest.stop()

    told: dict[bytes, set[bytes]] = defaultdict(set)
    asked: set[tuple[str, str]] = set()
    decisions = 0
    for headers, body in read_all(rig.servers, "ntf.decisions.v1"):
        decisions += 1
        told[headers["ce_id"]].add(repr(sorted(headers.items())).encode() + body)
        asked.add((headers["ce_subject"].decode(), headers["ce_datapurpose"].decode()))
    models: dict[tuple[int, int], set[bytes]] = defaultdict(set)
    shards = 0
    for _, body in read_all(rig.servers, "airside.model.v1"):
        shard = msgspec.msgpack.decode(body, type=Shard)
        models[shard.lane, shard.number].add(body)
        shards += 1

    assert told
    assert {1} == {len(versions) for versions in told.values()}
    assert {1} == {len(versions) for versions in models.values()}
    # Decisions go out all the time, so a kill repeats some; the sums of a model seldom.
    assert decisions + shards > len(told) + len(models), "no epoch was repeated: nothing was proven"
    written = rig.client.query("SELECT count() FROM decisions FINAL").result_rows[0][0]
    assert len(told) == written

    consents = {n for n, p in load_policy(POLICY).purposes.items() if p.basis == "consent"}
    granted = {person.subject: person.granted for person in world.residents}
    without = [(who, why) for who, why in asked if why in consents and why not in granted[who]]
    assert [] == without
