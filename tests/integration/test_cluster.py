"""The same flow in Bytewax's own cluster of two processes, on Apache Kafka."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from bytewax.recovery import init_db_dir

from connectors.embedded.child import free_port
from connectors.embedded.clickhouse import EmbeddedClickHouse
from connectors.native.level import find_fault
from tests.ingest_process import ROOT, STARTED, STOP_S_MAX, IngestProcess
from tests.integration.test_ingest import Rig, assert_all_right
from tests.services import Breakable

PROCESSES = 2
FLOW = "flows.cluster:ingest()"
LOADED = '"event": "lane_loaded"'


class ClusterProcess(IngestProcess):
    """Two processes of one cluster, with one recovery store."""

    def __init__(self, folder: Path, **more: Any) -> None:
        super().__init__(folder, **more)
        self.store = folder / "store"
        self.store.mkdir()
        init_db_dir(self.store, PROCESSES)
        self.processes: list[subprocess.Popen[bytes]] = []
        self._loaded = 0

    def start(self, *, started: str = STARTED) -> None:
        """Start both and wait until both have built the flow."""
        before = self.words().count(started)
        self._loaded = self.words().count(LOADED)
        addresses = self._addresses()
        for number in range(PROCESSES):
            self._start(number, addresses)
        self.wait_for(started, before + PROCESSES)

    def _addresses(self) -> str:
        return ";".join(f"127.0.0.1:{free_port()}" for _ in range(PROCESSES))

    def _start(self, number: int, addresses: str) -> None:
        store = ["-r", str(self.store), "-s", "1", "-b", "0"]
        place = ["-i", str(number), "-a", addresses]
        with self.log.open("ab") as out:
            self.processes.append(
                subprocess.Popen(
                    [sys.executable, "-m", "bytewax.run", FLOW, *store, *place],
                    cwd=ROOT,
                    env=self.environment,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                )
            )

    def is_running(self) -> bool:
        return all(process.poll() is None for process in self.processes)

    def start_one(self, number: int) -> None:
        """Start one, and none of those that it waits for."""
        before = self.words().count(STARTED)
        self._start(number, self._addresses())
        self.wait_for(STARTED, before + 1)

    def wait_for_lanes(self) -> None:
        """Wait until all lanes of this start read their streams."""
        self.wait_for(LOADED, self._loaded + self.settings.lanes)

    def stop_all(self, *, apart_s: float = 0.0) -> list[int]:
        """Ask them to stop, one after another; gives their exit codes."""
        for process in self.processes:
            process.send_signal(signal.SIGTERM)
            time.sleep(apart_s)
        return self.ended()

    def kill_one(self, number: int) -> list[int]:
        """End one as a crash would; gives the exit codes of all, as they end by themselves."""
        self.processes[number].kill()
        return self.ended()

    def ended(self) -> list[int]:
        codes = [process.wait(STOP_S_MAX) for process in self.processes]
        self.processes = []
        return codes

    def kill(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()


class ClusterRig(Rig):
    """The rig of the ingest tests, with a cluster in place of a single process."""

    process = ClusterProcess
    ingest: ClusterProcess


@pytest.fixture
def rig(breakable_kafka: Breakable, tmp_path: Path) -> Iterator[ClusterRig]:
    with ExitStack() as stack:
        clickhouse = stack.enter_context(EmbeddedClickHouse(data_dir=tmp_path, faults=True))
        made = ClusterRig(tmp_path, breakable_kafka.bootstrap_servers, clickhouse, "exactly_once")
        stack.callback(made.close)
        yield made


def test_a_cluster_drains_dies_and_goes_on_without_loss_or_doubles(rig: ClusterRig) -> None:
    with rig.sending(rig.world(16_000), rate=1_000) as streaming:
        rig.ingest.start()
        assert streaming.wait(60)
        rig.ingest.wait_for_lanes()
        assert [0, 0] == rig.ingest.stop_all(apart_s=2.0)
        for number in range(PROCESSES):
            rig.ingest.start()
            rig.ingest.wait_for_lanes()
            time.sleep(2.0 * number)  # as the streams begin, and in the middle of the work
            assert 0 not in rig.ingest.kill_one(number), "a peer ends with its peer"
        rig.ingest.start()
    rig.wait()

    assert [0, 0] == rig.ingest.stop_all()
    assert_all_right(rig.verify())
    assert "step_failed" not in rig.ingest.words()
    level = "native" if find_fault() is None else "pure"
    assert f'"kafka_level": "{level}"' in rig.ingest.words()


def test_what_ends_one_process_ends_all_and_is_in_the_log(rig: ClusterRig) -> None:
    rig.ingest.environment["AIRSIDE_CLICKHOUSE__RETRY_S_MAX"] = "1"
    with rig.sending(rig.world(8_000), rate=1_000) as streaming:
        rig.ingest.start()
        assert streaming.wait(60)
        rig.fault("refuse")
        assert 0 not in rig.ingest.ended()
        rig.fault("none")
        rig.ingest.start()
    rig.wait()

    told = [line for line in rig.ingest.words().splitlines() if '"event": "step_failed"' in line]
    assert told
    assert all('"step": "write_rows"' in line for line in told)
    assert [0, 0] == rig.ingest.stop_all()
    assert_all_right(rig.verify())


def test_a_process_that_waits_for_its_peers_stops_when_asked(rig: ClusterRig) -> None:
    rig.ingest.start_one(1)

    assert [0] == rig.ingest.stop_all()
    assert "stopped_before_start" in rig.ingest.words()


def test_a_process_whose_peers_never_come_is_ended(rig: ClusterRig) -> None:
    rig.ingest.environment["AIRSIDE_WATCHDOG_S"] = "2"
    rig.ingest.start_one(1)

    assert [70] == rig.ingest.ended()
    assert "watchdog_ended_process" in rig.ingest.words()
