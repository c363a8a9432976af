"""The whole ingest dataflow on a running Kafka and ClickHouse, with things going wrong.

A simulated world is sent; afterwards every number is compared with its truth, to the message.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from clickhouse_connect.driver.client import Client
from confluent_kafka import Producer

from connectors.clickhouse.client import ClickHouseAddress, connect
from connectors.embedded.broker import EmbeddedBroker
from connectors.embedded.child import free_port
from connectors.embedded.clickhouse import EmbeddedClickHouse
from flows.simulate import Truth, World, simulate
from flows.verify import Report, verify
from tests.ingest_process import IngestProcess, wait_decided
from tests.services import Breakable

SEED = 7
SHORT_MEMORY = {"AIRSIDE_TIME__DUPLICATE_S_MAX": "43200"}


class Rig:
    """Kafka, ClickHouse, an ingest process, and a world to send through them."""

    more: Mapping[str, str] = {}
    process: type[IngestProcess] = IngestProcess

    def __init__(
        self, folder: Path, servers: str, clickhouse: EmbeddedClickHouse, delivery: str
    ) -> None:
        self.servers = servers
        self.clickhouse = clickhouse
        address = ClickHouseAddress(clickhouse.dsn, "airside")
        more = {
            **SHORT_MEMORY,
            # So that whole flows run at both levels: natively, where it is built, on Apache Kafka.
            "AIRSIDE_KAFKA__LEVEL": "auto" if delivery == "exactly_once" else "pure",
            **self.more,
            "AIRSIDE_KAFKA__DELIVERY": delivery,
        }
        self.ingest = self.process(folder, bootstrap_servers=servers, clickhouse=address, more=more)
        self.ingest.prepare()
        self.client: Client = connect(address)
        self.truth = Truth()

    def world(self, total: int) -> World:
        return World(SEED, total=total, end_ms=time.time_ns() // 1_000_000, people=300)

    def send(self, world: World) -> None:
        """Send everything at once; the dataflow must not run before, or know the profiles."""
        simulate(world, bootstrap_servers=self.servers, rate=0, truth=self.truth)

    @contextmanager
    def sending(self, world: World, *, rate: int) -> Iterator[threading.Event]:
        """Send at a pace beside the block; profiles are decided before the stream begins.

        The event that the block gets is set when the stream begins.
        """
        streaming = threading.Event()
        before = self.truth.total

        def between() -> None:
            client = connect(ClickHouseAddress(self.clickhouse.dsn, "airside"))
            wait_decided(client, before + world.profile_count)
            client.close()
            streaming.set()

        with ThreadPoolExecutor(1) as pool:
            work = pool.submit(
                simulate,
                world,
                bootstrap_servers=self.servers,
                rate=rate,
                truth=self.truth,
                between=between,
            )
            yield streaming
            work.result()

    def wait(self) -> None:
        wait_decided(self.client, self.truth.total, self.ingest)

    def verify(self) -> Report:
        return verify(self.truth, self.client, bootstrap_servers=self.servers)

    def fault(self, mode: str) -> None:
        order = Request(f"{self.clickhouse.dsn}/fault?mode={mode}", method="POST")
        with urlopen(order, timeout=10) as answer:
            answer.read()

    def close(self) -> None:
        self.ingest.kill()
        self.client.close()


@pytest.fixture
def closing() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def rig(breakable_kafka: Breakable, tmp_path: Path, closing: ExitStack) -> Rig:
    """On Apache Kafka of the test's own."""
    clickhouse = closing.enter_context(EmbeddedClickHouse(data_dir=tmp_path, faults=True))
    made = Rig(tmp_path, breakable_kafka.bootstrap_servers, clickhouse, "exactly_once")
    closing.callback(made.close)
    return made


@pytest.fixture
def embedded_rig(tmp_path: Path, closing: ExitStack) -> Rig:
    """On the embedded stack."""
    broker = closing.enter_context(EmbeddedBroker(data_dir=tmp_path))
    clickhouse = closing.enter_context(EmbeddedClickHouse(data_dir=tmp_path, faults=True))
    made = Rig(tmp_path, broker.bootstrap_servers, clickhouse, "at_least_once")
    closing.callback(made.close)
    return made


def assert_all_right(report: Report, *, republished: int | None = 0) -> None:
    assert [] == list(report.sentences)
    assert 0 == report.mismatches
    assert report.produced == sum(report.doors.values())
    if republished is not None:
        assert republished == report.republished


def test_every_message_of_a_world_is_accounted_for_on_kafka(rig: Rig) -> None:
    rig.send(rig.world(12_000))
    rig.ingest.start()
    rig.wait()

    assert 0 == rig.ingest.stop()
    assert_all_right(rig.verify())


@pytest.mark.embedded_kafka
def test_every_message_of_a_world_is_accounted_for_on_the_embedded_stack(
    embedded_rig: Rig,
) -> None:
    embedded_rig.send(embedded_rig.world(12_000))
    embedded_rig.ingest.start()
    embedded_rig.wait()

    assert 0 == embedded_rig.ingest.stop()
    assert_all_right(embedded_rig.verify())


def test_stops_and_starts_lose_and_double_nothing(rig: Rig) -> None:
    with rig.sending(rig.world(12_000), rate=1_500):
        for _ in range(3):
            rig.ingest.start()
            time.sleep(1.5)
            assert 0 == rig.ingest.stop()
        rig.ingest.start()
    rig.wait()

    assert 0 == rig.ingest.stop()
    assert_all_right(rig.verify())


def test_kills_lose_and_double_nothing(rig: Rig) -> None:
    """SIGKILL at moments spread over the work; tables exact, topics exact to read_committed."""
    with rig.sending(rig.world(20_000), rate=1_000):
        for number in range(6):
            rig.ingest.start()
            time.sleep(1.0 + 0.37 * number)
            rig.ingest.kill()
        rig.ingest.start()
    rig.wait()

    assert 0 == rig.ingest.stop()
    assert_all_right(rig.verify())


@pytest.mark.embedded_kafka
def test_kills_on_the_embedded_stack_repeat_records_and_nothing_else(embedded_rig: Rig) -> None:
    rig = embedded_rig
    with rig.sending(rig.world(12_000), rate=1_500):
        for number in range(3):
            rig.ingest.start()
            time.sleep(1.0 + 0.37 * number)
            rig.ingest.kill()
        rig.ingest.start()
    rig.wait()

    assert 0 == rig.ingest.stop()
    assert_all_right(rig.verify(), republished=None)


def test_a_clickhouse_that_goes_away_costs_time_and_nothing_else(rig: Rig) -> None:
    with rig.sending(rig.world(8_000), rate=1_500) as streaming:
        rig.ingest.start()
        assert streaming.wait(60)
        rig.fault("refuse")
        time.sleep(4.0)
        assert rig.ingest.is_running()
        rig.fault("none")
    rig.wait()

    assert 0 == rig.ingest.stop()
    assert_all_right(rig.verify())
    assert "clickhouse_lost" in rig.ingest.words()
    assert "clickhouse_found" in rig.ingest.words()


@pytest.mark.parametrize("pause_s", [0.1, 2.5])
def test_a_broker_that_restarts_costs_time_and_nothing_else(
    rig: Rig, breakable_kafka: Breakable, pause_s: float
) -> None:
    """Once within the first transactions, and once in the middle of the work."""
    rig.ingest.options = ["--cells=1"]  # a commit may never come back, see `Steps.stuck`
    rig.ingest.environment["AIRSIDE_RESTART_PAUSE_S_MAX"] = "0.5"
    with rig.sending(rig.world(12_000), rate=2_000) as streaming:
        rig.ingest.start(started='"event": "cell_started"')
        assert streaming.wait(60)
        time.sleep(pause_s)
        breakable_kafka.restart()
    rig.wait()

    assert 0 == rig.ingest.stop()
    assert_all_right(rig.verify())


def test_a_broker_that_restarts_as_streams_begin_costs_time_and_nothing_else(
    rig: Rig, breakable_kafka: Breakable
) -> None:
    """At the moment when librdkafka's own recovery may hang, see its issue 5511.

    It does so now and then, in a commit: its bound then ends the cell, which is started again.
    """
    rig.ingest.options = ["--cells=1"]
    rig.ingest.environment["AIRSIDE_KAFKA__DELIVERY_S_MAX"] = "15"
    rig.ingest.environment["AIRSIDE_RESTART_PAUSE_S_MAX"] = "0.5"
    rig.send(rig.world(12_000))
    rig.ingest.start(started='"event": "cell_started"')
    rig.ingest.wait_for('"event": "lane_loaded"', 4)
    time.sleep(0.1)
    breakable_kafka.restart()
    rig.wait()

    assert 0 == rig.ingest.stop()
    assert_all_right(rig.verify())


def test_inserts_that_time_out_after_applying_change_nothing(rig: Rig) -> None:
    with rig.sending(rig.world(8_000), rate=1_500) as streaming:
        rig.ingest.start()
        assert streaming.wait(60)
        for _ in range(4):
            rig.fault("apply_then_timeout&count=2")
            time.sleep(0.7)
        rig.fault("none")
    rig.wait()

    assert 0 == rig.ingest.stop()
    assert_all_right(rig.verify())


@pytest.mark.embedded_kafka
def test_a_stop_while_clickhouse_is_away_ends_soon_and_loses_nothing(embedded_rig: Rig) -> None:
    """Half of the time for draining is spent on waiting, and not all that an outage may last."""
    rig = embedded_rig
    rig.ingest.environment["AIRSIDE_DRAIN_S_MAX"] = "4"
    rig.send(rig.world(3_000))
    rig.ingest.start()
    rig.wait()
    rig.fault("refuse")
    rig.send(rig.world(3_000))
    rig.ingest.wait_for("clickhouse_lost", 1)

    assert 75 == rig.ingest.stop()
    assert "nothing is lost" in rig.ingest.words()
    rig.fault("none")
    rig.ingest.start()
    wait_decided(rig.client, 6_000, rig.ingest)
    assert 0 == rig.ingest.stop()


def test_a_second_instance_is_refused(rig: Rig, tmp_path: Path) -> None:
    rig.ingest.start()
    address = ClickHouseAddress(rig.clickhouse.dsn, "airside")
    second = IngestProcess(tmp_path, bootstrap_servers=rig.servers, clickhouse=address)
    second.log = tmp_path / "second.log"

    assert 78 == second.run_to_the_end()
    assert "another process using it" in second.words()


@pytest.mark.embedded_kafka
@pytest.mark.parametrize("missing", ["kafka", "clickhouse"])
def test_a_service_that_is_down_at_start_is_named_in_one_line(
    embedded_rig: Rig, tmp_path: Path, missing: str
) -> None:
    nowhere = f"127.0.0.1:{free_port()}"
    kafka = nowhere if missing == "kafka" else embedded_rig.servers
    dsn = f"http://{nowhere}" if missing == "clickhouse" else embedded_rig.clickhouse.dsn
    folder = tmp_path / "other"
    folder.mkdir()
    ingest = IngestProcess(
        folder, bootstrap_servers=kafka, clickhouse=ClickHouseAddress(dsn, "airside")
    )

    assert 75 == ingest.run_to_the_end()
    last = ingest.words().strip().splitlines()[-1]
    assert last.startswith("airside: could not reach")
    assert nowhere in last
    assert "`airside up` starts one here" in last


CANARY = "canary-7f3a91"

BAD: dict[str, tuple[bytes | None, bytes | None, list[tuple[str, Any]]]] = {
    "null everything": (None, None, []),
    "not JSON": (b"k", b"{" + CANARY.encode(), []),
    "not UTF-8": (b"k", b"\xff\xfe" + CANARY.encode(), []),
    "depth bomb": (b"k", b"[" * 500_000, []),
    "4 MB": (b"k", CANARY.encode() * 300_000, []),
    "null header": (b"k", b"{}", [("ce_id", None)]),
    "binary header": (b"k", b"{}", [("ce_source", CANARY.encode() + b"\xff")]),
    "many headers": (b"k", b"{}", [(f"h{n}", CANARY.encode()) for n in range(2_000)]),
}


def test_no_bad_message_stops_the_worker_or_shows_in_its_log(rig: Rig) -> None:
    good = {
        "ce_specversion": b"1.0",
        "ce_id": b"evt-00000001",
        "ce_source": b"/game/signup",
        "ce_type": b"ntf.request.created.v1",
        "ce_time": b"2026-01-05T10:00:00.000Z",
        "content-type": b"application/json",
        "ce_datapurpose": b"new_player_reg",
        "ce_dataclassification": b"PUBLIC",
        "ce_correlationid": b"jrn_00000001",
    }
    producer = Producer(
        {"bootstrap.servers": rig.servers, "message.max.bytes": 8_388_608, "linger.ms": 5}
    )
    sent = 0
    for key, value, headers in BAD.values():
        for base in ({}, good):
            whole = [*{**base, **dict(headers)}.items()]
            producer.produce("ntf.requests.v1", value=value, key=key, headers=whole)
            sent += 1
    assert producer.flush(30) == 0
    rig.ingest.start()
    wait_decided(rig.client, sent, rig.ingest)
    assert 0 == rig.ingest.stop()

    doors = rig.client.query("SELECT door, sum(n) FROM fates FINAL GROUP BY 1").result_rows
    assert [("quarantined", sent)] == list(doors)
    coded = rig.client.query(
        "SELECT countIf(match(code, '^T[0-9]{3}$')), countIf(position(concat(pointer, reason,"
        f" source, event_type, event_id), '{CANARY}') > 0) FROM quarantine FINAL"
    )
    assert [(sent, 0)] == list(coded.result_rows)
    assert CANARY not in rig.ingest.words()
