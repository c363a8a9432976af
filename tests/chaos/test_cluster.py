"""The same flow in the engine's own cluster: a process is killed, all end, all start again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest
from bytewax.recovery import init_db_dir

from connectors.embedded.child import free_port
from flows.simulate import simulate
from flows.verify import verify
from tests.chaos.load import Load
from tests.chaos.oracle import judge
from tests.chaos.rig import Rig, decided
from tests.chaos.target import ROOT, StuckError
from tests.chaos.witness import collect, open_transactions
from tests.services import Breakable

pytestmark = pytest.mark.long

PROCESSES: Final = 2
SEED: Final = 31
WAIT_S_MAX: Final = 60.0
DIE_S_MAX: Final = 90.0


class Cluster:
    """So many processes of one cluster, with a recovery store of its own."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.store = folder / "cluster-store"
        self.log = folder / "cluster.log"
        self._environment = environment
        self._children: list[subprocess.Popen[bytes]] = []
        self.store.mkdir()
        init_db_dir(self.store, PROCESSES)

    def start(self) -> None:
        addresses = ";".join(f"127.0.0.1:{free_port()}" for _ in range(PROCESSES))
        options = ["-a", addresses, "-r", str(self.store), "-s", "1", "-b", "0"]
        command = [sys.executable, "-m", "bytewax.run", "flows.cluster:ingest()"]
        with self.log.open("ab") as out:
            self._children = [
                subprocess.Popen(
                    [*command, "-i", str(number), *options],
                    cwd=ROOT,
                    env=self._environment,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                )
                for number in range(PROCESSES)
            ]

    def kill_one(self, number: int) -> None:
        """Kill one; the rest has to end by itself, the engine or the watchdog sees to it."""
        self._children[number].kill()
        self.wait()

    def stop(self) -> list[int]:
        """Drain all."""
        for child in self._children:
            child.send_signal(signal.SIGTERM)
        return self.wait()

    def wait(self) -> list[int]:
        """Wait until all have ended."""
        deadline_s = time.monotonic() + DIE_S_MAX
        while any(child.poll() is None for child in self._children):
            if time.monotonic() > deadline_s:
                raise StuckError("end of the cluster", DIE_S_MAX, self.log.read_text()[-2_000:])
            time.sleep(0.1)
        return [child.returncode for child in self._children]

    def close(self) -> None:
        for child in self._children:
            if child.poll() is None:
                os.kill(child.pid, signal.SIGKILL)
            child.wait()


@contextmanager
def cluster_of(rig: Rig) -> Iterator[Cluster]:
    made = Cluster(rig.folder, rig.target.environment)
    try:
        yield made
    finally:
        made.close()


def wait_decided(rig: Rig, count: int) -> None:
    client = rig.client()
    deadline_s = time.monotonic() + WAIT_S_MAX
    while (found := decided(client)) < count:
        assert time.monotonic() < deadline_s, f"{found} of {count} decided"
        time.sleep(0.1)


def test_a_cluster_whose_processes_are_killed_loses_and_doubles_nothing(
    breakable_kafka: Breakable, tmp_path: Path
) -> None:
    more = {"AIRSIDE_WATCHDOG_S": "20"}
    with Rig(tmp_path, breakable_kafka, more=more) as rig, cluster_of(rig) as cluster:
        load = Load(rig.servers, seed=SEED, seconds=30.0, rate=400)
        simulate(load.world, bootstrap_servers=rig.servers, rate=0, truth=load.truth)
        for number in (1, 0):
            cluster.start()
            time.sleep(3.0 + number)
            cluster.kill_one(number)
        cluster.start()
        wait_decided(rig, load.truth.total)
        codes = cluster.stop()
        open_ones = open_transactions(rig.servers)
        client = rig.client()
        evidence, _ = collect(rig.servers, client, [cluster.log])
        found = judge(evidence)
        report = verify(load.truth, client, bootstrap_servers=rig.servers)

    assert [] == found.sentences
    assert {} == dict(found.counts)
    assert (0, 0) == (report.mismatches, report.republished), report.sentences
    assert [] == open_ones
    assert 0 in codes
