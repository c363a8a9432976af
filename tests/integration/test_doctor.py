"""`airside doctor` on running services: all well at first, then one thing after another broken."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import orjson
import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from connectors.clickhouse.client import ClickHouseAddress, connect
from connectors.embedded.broker import EmbeddedBroker
from connectors.embedded.clickhouse import EmbeddedClickHouse
from flows.simulate import Truth, World, simulate
from tests.ingest_process import ROOT, IngestProcess, wait_decided
from tests.services import Breakable

TOTAL = 2_000
# A test's folder may be on a disk that does not stay, and on one that is rather full.
OF_THE_MACHINE = {"file_system", "disk_free", "file_descriptors"}

Checks = dict[str, dict[str, Any]]


class Rig:
    """Kafka, ClickHouse, an ingest process, and the doctor with the same settings."""

    def __init__(
        self, folder: Path, servers: str, clickhouse: EmbeddedClickHouse, how: str
    ) -> None:
        self.folder = folder
        self.servers = servers
        self.clickhouse = clickhouse
        self.address = ClickHouseAddress(clickhouse.dsn, "airside")
        self.ingest = IngestProcess(
            folder,
            bootstrap_servers=servers,
            clickhouse=self.address,
            more={"AIRSIDE_KAFKA__DELIVERY": how},
        )

    def doctor(self, folder: Path | None = None) -> Checks:
        """Run it, with a copy of the data folder if one is given; all but what is well."""
        environment = dict(self.ingest.environment)
        if folder is not None:
            environment["AIRSIDE_DATA"] = str(folder)
        command = [sys.executable, "-m", "flows", "doctor", "--json"]
        ran = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, check=False, timeout=120
        )
        found = orjson.loads(ran.stdout)
        assert ran.returncode == (0 if found["passed"] else 1), ran.stderr
        return {
            check["name"]: check
            for check in found["checks"]
            if check["state"] != "ok" and check["name"] not in OF_THE_MACHINE
        }

    def run_once(self) -> None:
        """Let ingest decide a small world, and stop it."""
        world = World(7, total=TOTAL, end_ms=time.time_ns() // 1_000_000, people=50)
        truth = Truth()
        simulate(world, bootstrap_servers=self.servers, rate=0, truth=truth)
        self.ingest.start()
        client = connect(self.address)
        wait_decided(client, truth.total, self.ingest)
        client.close()

    def copy(self, name: str) -> Path:
        """A copy of the recovery stores, to break."""
        folder = self.folder / name
        shutil.copytree(self.folder / "recovery", folder / "recovery")
        return folder


@pytest.fixture
def closing() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def make_rig(tmp_path: Path, closing: ExitStack, servers: str, how: str) -> Rig:
    clickhouse = closing.enter_context(EmbeddedClickHouse(data_dir=tmp_path))
    made = Rig(tmp_path, servers, clickhouse, how)
    closing.callback(made.ingest.kill)
    return made


def states(checks: Checks) -> dict[str, str]:
    return {name: check["state"] for name, check in checks.items()}


def only_part(folder: Path) -> Path:
    """The first part file, wherever the flow keeps its stores."""
    return min((folder / "recovery").rglob("part-0.sqlite3"))


def test_doctor_finds_what_is_broken_and_nothing_else(
    breakable_kafka: Breakable, tmp_path: Path, closing: ExitStack
) -> None:
    rig = make_rig(tmp_path, closing, breakable_kafka.bootstrap_servers, "exactly_once")

    bare = rig.doctor()
    assert {"topics": "fail", "partitions": "not_checked"} == {
        name: state for name, state in states(bare).items() if name in ("topics", "partitions")
    }
    assert "`airside migrate`" in bare["clickhouse"]["do"]

    rig.ingest.prepare()
    assert {} == rig.doctor()

    rig.run_once()
    assert {"store_use": "warn"} == states(rig.doctor())
    assert 0 == rig.ingest.stop()
    stores = {path: path.read_bytes() for path in sorted((tmp_path / "recovery").rglob("*.sql*"))}
    assert {} == rig.doctor()
    assert stores == {path: path.read_bytes() for path in (tmp_path / "recovery").rglob("*.sql*")}

    rescale = [sys.executable, "-m", "flows", "rescale", "ingest", "--cells", "2"]
    subprocess.run(rescale, cwd=ROOT, env=rig.ingest.environment, check=True, timeout=60)
    assert only_part(tmp_path).parent.name == "cell-0-of-2"
    assert {} == rig.doctor()

    break_stores(rig)
    break_tables(rig)
    break_topics(rig)
    rig.clickhouse.stop()
    assert "fail" == rig.doctor()["clickhouse"]["state"]
    breakable_kafka.kill()
    away = rig.doctor()
    assert ("fail", "fail") == (away["kafka"]["state"], away["clickhouse"]["state"])
    assert "not_checked" == away["store_offsets"]["state"]
    assert "store_parts" not in away


def break_stores(rig: Rig) -> None:
    unread = dict.fromkeys(("store_states", "store_offsets", "store_size"), "not_checked")

    gone = rig.copy("gone")
    only_part(gone).unlink()
    found = rig.doctor(gone)
    assert {"store_parts": "fail", **unread} == states(found)
    assert "from a backup" in found["store_parts"]["do"]

    rotten = rig.copy("rotten")
    part = only_part(rotten)
    with part.open("r+b") as file:
        for page in range(1, part.stat().st_size // 4_096):
            file.seek(page * 4_096)
            file.write(b"\xa5" * 64)
    assert {"store_parts": "fail", **unread} == states(rig.doctor(rotten))

    other = rig.copy("other")
    manifest = min((other / "recovery").rglob("manifest.json"))
    manifest.write_bytes(manifest.read_bytes().replace(b'"pass_gate"', b'"pass_door"'))
    found = rig.doctor(other)
    assert {"store_shape": "fail"} == states(found)
    assert "expected read_lanes, check_block, pass_gate" in found["store_shape"]["found"]


def break_tables(rig: Rig) -> None:
    client = connect(rig.address)
    client.command("ALTER TABLE facts DROP COLUMN trace_id")
    client.command("ALTER TABLE migrations DELETE WHERE number = 3 SETTINGS mutations_sync = 2")
    client.close()
    found = rig.doctor()

    assert {"columns": "fail", "migrations": "fail"} == states(found)
    assert "no column facts.trace_id" == found["columns"]["found"]
    assert "0003_create_fates.sql" in found["migrations"]["found"]
    assert "run `airside migrate`" == found["migrations"]["do"]


def break_topics(rig: Rig) -> None:
    """Messages that were not read yet are deleted, as retention would do it during a long stop."""
    admin = AdminClient({"bootstrap.servers": rig.servers})
    simulate(
        World(8, total=TOTAL, end_ms=time.time_ns() // 1_000_000, people=50),
        bootstrap_servers=rig.servers,
        rate=0,
        truth=Truth(),
    )
    place = TopicPartition("ntf.requests.v1", 0, -1)  # -1: all there is
    admin.delete_records([place])[place].result(timeout=30)
    found = rig.doctor()
    assert {"store_offsets", "columns", "migrations"} == set(found)
    assert "fail" == found["store_offsets"]["state"]
    assert "messages are gone: ntf.requests.v1/0: saved" in found["store_offsets"]["found"]
    assert "raise retention.ms" in found["store_offsets"]["do"]

    admin.delete_topics(["ntf.requests.v1"])["ntf.requests.v1"].result(timeout=30)
    missing = rig.doctor()
    assert {"topics", "partitions", "store_offsets"} <= set(missing)
    assert "saved partitions that Kafka does not have" in missing["store_offsets"]["found"]
    rig.ingest.prepare()
    anew = rig.doctor()["store_offsets"]
    assert ("fail", True) == (anew["state"], "made anew" in anew["do"])


@pytest.mark.embedded_kafka
def test_doctor_says_what_the_embedded_broker_lacks(tmp_path: Path, closing: ExitStack) -> None:
    broker = closing.enter_context(EmbeddedBroker(data_dir=tmp_path))
    rig = make_rig(tmp_path, closing, broker.bootstrap_servers, "at_least_once")
    rig.ingest.prepare()
    rig.run_once()
    assert 0 == rig.ingest.stop()
    assert {"record_times": "not_checked"} == states(rig.doctor())

    strict = make_rig(tmp_path / "strict", closing, broker.bootstrap_servers, "exactly_once")
    strict.ingest.prepare()
    found = strict.doctor()
    assert "fail" == found["transactions"]["state"]
    assert "AIRSIDE_KAFKA__DELIVERY=at_least_once" in found["transactions"]["do"]
