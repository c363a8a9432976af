"""The machine's own clock jumps by two hours, both ways, while messages flow."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.chaos.faults import pick
from tests.chaos.runner import Plan, run
from tests.chaos.target import ROOT
from tests.services import Breakable

SEED: Final = 41
MOVER: Final = next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))), None)


def test_a_clock_that_jumps_costs_a_start_and_nothing_else(
    breakable_kafka: Breakable, tmp_path: Path
) -> None:
    plan = Plan(SEED, 8.0, tuple(pick("clock_step")), cells=2, rate=300)
    verdict = run(plan, tmp_path, breakable_kafka)

    assert verdict.ok, (verdict.line(), verdict.sentences, verdict.notes)
    assert verdict.hits["clock_set_back"] > 0
    assert verdict.hits["clock_set_ahead"] > 0
    reasons = (tmp_path / "run" / "ingest" / "exits.jsonl").read_text()
    assert "the clock of this machine 7" in reasons
    assert "nothing durable for" not in reasons


STANDS_STILL: Final = """
import sys, time
from datetime import UTC, datetime, timedelta
from pathlib import Path
import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.inputs import DynamicSource, StatelessSourcePartition
from bytewax.testing import TestingSink, run_main
from connectors.watchdog import Watchdog

clock, dog, looks = Path(sys.argv[1]), Watchdog(limit_s=300.0), []

class Part(StatelessSourcePartition):
    def next_batch(self):
        looks.append(time.monotonic())
        if looks[-1] - looks[0] > 6:
            raise StopIteration
        return []
    def next_awake(self):
        now = datetime.now(UTC)
        if looks and looks[-1] - looks[0] > 2 and clock.read_text() == "+0":
            clock.write_text("-7200")
            # Until it is seen, so that no reading of the clock is between the step and the waiting.
            while datetime.now(UTC) > now:
                pass  # a second at most; sleeping is what libfaketime gets wrong
        return now + timedelta(milliseconds=10)

class Source(DynamicSource):
    def build(self, *_):
        return Part()

flow = Dataflow("still")
op.output("out", op.input("in", flow, Source()), TestingSink([]))
if sys.argv[2] == "watched":
    dog.start()
run_main(flow, epoch_interval=timedelta(seconds=0.5))
"""


@pytest.mark.skipif(MOVER is None, reason="no libfaketime here, so the engine has no other clock")
def test_the_engine_stands_still_under_a_clock_that_was_set_back_and_the_watchdog_ends_it(
    tmp_path: Path,
) -> None:
    """The reason for that watch, and the control: without it the process is deaf for two hours."""
    clock = tmp_path / "clock"
    clock.write_text("+0")
    environment = {
        **os.environ,
        "LD_PRELOAD": str(MOVER),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_CACHE_DURATION": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "NO_FAKE_STAT": "1",
    }
    command = [sys.executable, "-c", STANDS_STILL, str(clock)]

    watched = subprocess.run(
        [*command, "watched"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert 75 == watched.returncode, watched.stderr[-2_000:]
    assert "the clock of this machine 7" in watched.stdout

    clock.write_text("+0")
    with pytest.raises(subprocess.TimeoutExpired):
        alone = subprocess.run(
            [*command, "alone"],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        pytest.fail(f"ended with {alone.returncode}: {alone.stderr[-2_000:]}")
    assert "-7200" == clock.read_text()
