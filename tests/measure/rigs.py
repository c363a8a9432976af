"""What measurements on Apache Kafka run on, and how they say what they found."""

from __future__ import annotations

import json
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

from connectors.embedded.clickhouse import EmbeddedClickHouse
from tests.ingest_process import decided
from tests.integration.test_ingest import Rig
from tests.integration.test_timing import TimingRig
from tests.services_kafka import KafkaNode

LANES: Final = 4
LOOK_S: Final = 0.02
REST_S_MAX: Final = 120.0
STALLED: Final = re.compile(r'airside_epoch_stall_seconds_(sum|count)\{lane="\d+"\} ([0-9.e+-]+)')


@contextmanager
def make_rig(**more: str) -> Iterator[Rig]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        kafka = stack.enter_context(KafkaNode(folder / "kafka"))
        clickhouse = stack.enter_context(EmbeddedClickHouse(data_dir=folder, faults=True))
        rig = Rig(folder, kafka.bootstrap_servers, clickhouse, "exactly_once")
        rig.ingest.environment.update(more)
        stack.callback(rig.close)
        yield rig


@contextmanager
def timing_rig(**more: str) -> Iterator[TimingRig]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        kafka = stack.enter_context(KafkaNode(folder / "kafka"))
        clickhouse = stack.enter_context(EmbeddedClickHouse(data_dir=folder))
        rig = TimingRig(folder, kafka.bootstrap_servers, clickhouse, "exactly_once")
        # Six hours of a made-up world are sent within a minute or two: what is 5 min ahead of a
        # slower partition, and then waits for it, is less than a second ahead there.
        rig.ingest.environment["AIRSIDE_TIME__AHEAD_S_MAX"] = "86400"
        rig.ingest.environment.update(more)
        stack.callback(rig.close)
        yield rig


def say(name: str, **figures: Any) -> None:
    sys.stdout.write(json.dumps({"figure": name, **figures}) + "\n")
    sys.stdout.flush()


def resident_mb(pid: int) -> float:
    text = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", text)
    assert found is not None
    return int(found[1]) / 1_024


def peak_mb(pid: int) -> float:
    """The most that a process ever held."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) / 1_024


def catch_up(rig: Rig, samples: list[float]) -> None:
    """Wait until everything is decided, as long as something still is now and then."""
    found, moved_s = 0, time.monotonic()
    while found < rig.truth.total:
        before, found = found, decided(rig.client)
        moved_s = time.monotonic() if found > before else moved_s
        assert time.monotonic() - moved_s < REST_S_MAX, f"{found} of {rig.truth.total} decided"
        assert rig.ingest.is_running(), rig.ingest.words()[-2_000:]
        samples.append(resident_mb(rig.ingest.pid))
        time.sleep(2)
