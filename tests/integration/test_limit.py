"""The quarantine limit on a running Kafka and ClickHouse: stop, say why, go on when told to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import msgspec
import pytest
from confluent_kafka import Producer

from connectors.clickhouse.client import ClickHouseAddress
from connectors.embedded.clickhouse import EmbeddedClickHouse
from flows.simulate import World
from flows.simulate.events import Message
from flows.simulate.faults import refuse
from tests.ingest_process import IngestProcess, decided, wait_decided
from tests.integration.test_ingest import SHORT_MEMORY, Rig, assert_all_right
from tests.services import Breakable

POISON_COUNT = 400
CANARY = b"canary-51c0de"
FREE = {"run_max": "1000000", "share_max": "1"}


class PoisonedWorld(World):
    """A world in whose midst one producer sends nothing but what cannot be read."""

    def stream(self) -> Iterator[Message]:
        left = POISON_COUNT
        for number, message in enumerate(super().stream()):
            yield message
            if left and number > 2_000 and message.event is not None and message.event.subject:
                yield from (poison(message) for _ in range(left))
                left = 0
        assert not left


def poison(message: Message) -> Message:
    """The message again, with a body that is none."""
    copy = msgspec.structs.replace(message, headers=list(message.headers), value=CANARY)
    return refuse(copy, kind="poison", code="T303")


class LimitRig(Rig):
    """A rig whose process is started with one limit after another."""

    folder: Path

    def with_limit(self, limit: dict[str, str]) -> IngestProcess:
        self.ingest = IngestProcess(
            self.folder,
            bootstrap_servers=self.servers,
            clickhouse=ClickHouseAddress(self.clickhouse.dsn, "airside"),
            more={
                **SHORT_MEMORY,
                **{f"AIRSIDE_LIMIT__{name.upper()}": text for name, text in limit.items()},
            },
        )
        return self.ingest

    def last_line(self) -> str:
        return self.ingest.words().strip().splitlines()[-1]


@pytest.fixture
def rig(breakable_kafka: Breakable, tmp_path: Path) -> Iterator[LimitRig]:
    with ExitStack() as stack:
        clickhouse = stack.enter_context(EmbeddedClickHouse(data_dir=tmp_path))
        made = LimitRig(tmp_path, breakable_kafka.bootstrap_servers, clickhouse, "exactly_once")
        made.folder = tmp_path
        stack.callback(made.close)
        yield made


@pytest.mark.parametrize(
    ("limit", "reason", "variable"),
    [
        ({**FREE, "run_max": "100"}, "messages to quarantine in a row since offset", "RUN_MAX"),
        (
            {**FREE, "share_max": "0.2", "window": "200"},
            "of the lane's last 200 messages to quarantine",
            "SHARE_MAX",
        ),
    ],
    ids=["run", "share"],
)
def test_poison_among_a_world_stops_the_worker_until_the_limit_is_raised(
    rig: LimitRig, limit: dict[str, str], reason: str, variable: str
) -> None:
    world = PoisonedWorld(7, total=6_000, end_ms=rig.world(1).end_ms, people=300)
    rig.send(world)
    assert rig.truth.total > POISON_COUNT
    for _ in range(2):
        assert 70 == rig.with_limit(limit).run_to_the_end()
        last = rig.last_line()
        assert last.startswith('airside: could not go on with partition "ntf.')
        assert reason in last
        assert " T303" in last
        assert f"then raise AIRSIDE_LIMIT__{variable} to let these messages" in last
        assert decided(rig.client) < rig.truth.total

    rig.with_limit(FREE).start()
    rig.wait()

    assert 0 == rig.ingest.stop()
    report = rig.verify()
    assert_all_right(report)
    assert report.codes["T303"] >= POISON_COUNT
    assert CANARY.decode() not in rig.ingest.words()


def test_nothing_but_poison_stops_the_worker_before_it_fills_the_quarantine(
    rig: LimitRig,
) -> None:
    producer = Producer({"bootstrap.servers": rig.servers, "linger.ms": 5})
    for number in range(POISON_COUNT):
        producer.produce("ntf.requests.v1", value=CANARY, key=b"%d" % (number % 3))
    assert 0 == producer.flush(30)

    assert 70 == rig.with_limit({**FREE, "run_max": "50"}).run_to_the_end()
    assert "messages to quarantine in a row since offset 0 (" in rig.last_line()
    most = "SELECT max(n) FROM (SELECT sum(n) AS n FROM fates FINAL GROUP BY topic, part)"
    assert int(rig.client.query(most).result_rows[0][0] or 0) <= 50

    rig.with_limit(FREE).start()
    wait_decided(rig.client, POISON_COUNT, rig.ingest)
    assert 0 == rig.ingest.stop()
    doors = rig.client.query("SELECT door, sum(n) FROM fates FINAL GROUP BY 1").result_rows
    assert [("quarantined", POISON_COUNT)] == list(doors)
    assert CANARY.decode() not in rig.ingest.words()
