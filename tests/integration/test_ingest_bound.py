"""The whole ingest dataflow working off a backlog with few messages an epoch."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final
from urllib.request import urlopen

import pytest

from connectors.embedded.broker import EmbeddedBroker
from connectors.embedded.child import free_port
from connectors.embedded.clickhouse import EmbeddedClickHouse
from tests.ingest_process import decided
from tests.integration.test_ingest import Rig, assert_all_right
from tests.services import Breakable

BOUND: Final = "AIRSIDE_EPOCH_MESSAGES_MAX"
FULL: Final = re.compile(r'airside_epoch_full_seconds_total\{lane="\d+"\} ([0-9.e+-]+)')


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


def wait_for(rig: Rig, messages: int) -> None:
    deadline_s = time.monotonic() + 60
    while decided(rig.client) < messages:
        assert time.monotonic() < deadline_s
        assert rig.ingest.is_running(), rig.ingest.words()[-3_000:]
        time.sleep(0.05)


def kill_and_stop_at_bounds(rig: Rig) -> None:
    """Crashes in epochs of one bound that are repeated under another, and a stop at a bound."""
    rig.send(rig.world(12_000))
    more = rig.ingest.environment
    for number, bound in enumerate(("3000", "1000", "100000"), start=1):
        more[BOUND] = bound
        more["AIRSIDE_EPOCH_S"] = "1.0" if bound == "100000" else "0.7"
        rig.ingest.start()
        wait_for(rig, number * 1_500)
        time.sleep(0.2 * number)
        rig.ingest.kill()
    # Long epochs: whoever waits for the end of one would not stop in time.
    more |= {BOUND: "1000", "AIRSIDE_EPOCH_S": "60"}
    rig.ingest.start()
    # Lanes may be anywhere: what is repeated can fill the epoch before they are loaded.
    time.sleep(4.0)
    asked_s = time.monotonic()
    assert 0 == rig.ingest.stop()
    assert time.monotonic() - asked_s < 30
    more |= {BOUND: "2000", "AIRSIDE_EPOCH_S": "0.5"}
    rig.ingest.start()
    rig.wait()
    assert 0 == rig.ingest.stop()


def test_kills_and_stops_at_bounds_lose_and_double_nothing(rig: Rig) -> None:
    kill_and_stop_at_bounds(rig)

    assert_all_right(rig.verify())


@pytest.mark.embedded_kafka
def test_kills_and_stops_at_bounds_on_the_embedded_stack_lose_nothing(embedded_rig: Rig) -> None:
    kill_and_stop_at_bounds(embedded_rig)

    assert_all_right(embedded_rig.verify(), republished=None)


@pytest.mark.embedded_kafka
def test_epochs_that_are_full_end_by_their_time_and_no_watchdog_comes(embedded_rig: Rig) -> None:
    """Each lane waits for most of each epoch, and for longer in all than the watchdog allows."""
    rig = embedded_rig
    port = free_port()
    rig.ingest.environment |= {
        BOUND: "1000",
        "AIRSIDE_EPOCH_S": "1.5",
        "AIRSIDE_WATCHDOG_S": "6",
        "AIRSIDE_METRICS_PORT": str(port),
    }
    rig.send(rig.world(8_000))
    began_s = time.monotonic()
    rig.ingest.start()
    rig.wait()
    took_s = time.monotonic() - began_s
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        full_s = [float(value) for value in FULL.findall(answer.read().decode())]

    assert 0 == rig.ingest.stop()
    assert took_s > 7 * 1.5
    assert 4 == len(full_s)
    assert min(full_s) > 1
    assert_all_right(rig.verify())
