"""Cells under a supervisor on Apache Kafka: killed, hung, rescaled; every message once."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from connectors.embedded.clickhouse import EmbeddedClickHouse
from flows.cells import Home, Lease, replace_file
from tests.ingest_process import WAIT_S_MAX
from tests.integration.test_ingest import Rig, assert_all_right
from tests.services import Breakable

QUICK = {"AIRSIDE_RESTART_PAUSE_S_MAX": "0.5"}


class CellRig(Rig):
    """The rig of the ingest tests, with a supervisor in place of a single process."""

    cells = 2
    more = QUICK

    @property
    def home(self) -> Home:
        return Home(self.ingest.folder, "ingest")

    def start(self, cells: int = 2) -> None:
        self.ingest.options = [f"--cells={cells}"]
        self.ingest.start(started='"event": "cell_started"')
        self.wait_lease(cells)

    def wait_lease(self, cells: int) -> Lease:
        """Wait until so many cells got further."""
        deadline_s = time.monotonic() + WAIT_S_MAX
        while True:
            assert time.monotonic() < deadline_s, self.ingest.words()[-3_000:]
            assert self.ingest.is_running(), self.ingest.words()[-3_000:]
            lease = self.home.read_lease()
            signs = list(self.home.run.glob(f"cell-*-of-{cells}.alive"))
            if lease and lease.cells == cells == len(lease.children) == len(signs):
                return lease
            time.sleep(0.05)

    def exits(self) -> list[dict[str, Any]]:
        """The exit report."""
        file = self.home.exits_file
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def kill_cell(self, number: int) -> None:
        lease = self.home.read_lease()
        assert lease is not None
        group = lease.children.get(str(number))
        if group:
            os.killpg(group, signal.SIGKILL)


@pytest.fixture
def rig(breakable_kafka: Breakable, tmp_path: Path) -> Iterator[CellRig]:
    with ExitStack() as stack:
        clickhouse = stack.enter_context(EmbeddedClickHouse(data_dir=tmp_path, faults=True))
        made = CellRig(tmp_path, breakable_kafka.bootstrap_servers, clickhouse, "exactly_once")
        stack.callback(made.close)
        yield made


def test_cells_share_the_work_and_stop_together(rig: CellRig) -> None:
    rig.send(rig.world(12_000))
    rig.start(3)
    replace_file(rig.home.wish_file, b"99")
    rig.ingest.wait_for('"event": "rescale_refused"', 1)
    rig.wait()

    assert 0 == rig.ingest.stop()
    assert_all_right(rig.verify())
    assert {0, 1, 2} == {end["cell"] for end in rig.exits()}
    assert {0} == {end["code"] for end in rig.exits()}


def test_killed_cells_come_back_and_lose_and_double_nothing(rig: CellRig) -> None:
    with rig.sending(rig.world(16_000), rate=1_000) as streaming:
        rig.start(2)
        assert streaming.wait(60)
        for number in range(5):
            time.sleep(0.7 + 0.3 * number)
            rig.kill_cell(number % 2)
    rig.wait()

    assert 0 == rig.ingest.stop()
    assert_all_right(rig.verify())
    killed = [end for end in rig.exits() if end["signal"] == "SIGKILL"]
    assert 5 == len(killed)


def test_a_rescaling_under_load_loses_and_doubles_nothing(rig: CellRig) -> None:
    with rig.sending(rig.world(20_000), rate=1_000) as streaming:
        rig.start(1)
        assert streaming.wait(60)
        for cells in (3, 2):
            assert f"runs in {cells} cells" in rig.ingest.command(
                "rescale", "ingest", f"--cells={cells}"
            )
            time.sleep(1.0)
        rig.ingest.kill()
        rig.ingest.command("rescale", "ingest", "--cells=4")
        rig.start(4)
    rig.wait()

    assert 0 == rig.ingest.stop()
    assert_all_right(rig.verify())


def test_a_cell_that_hangs_is_killed_and_started_again(rig: CellRig) -> None:
    rig.ingest.environment["AIRSIDE_WATCHDOG_S"] = "10"
    with rig.sending(rig.world(6_000), rate=1_000) as streaming:
        rig.start(2)
        assert streaming.wait(60)
        lease = rig.wait_lease(2)
        os.killpg(lease.children["1"], signal.SIGSTOP)
        rig.ingest.wait_for('"event": "cell_hung"', 1)
    rig.wait()

    assert 0 == rig.ingest.stop()
    assert_all_right(rig.verify())
