"""Faults of several cells: their supervisor dies, their number changes, also while it changes."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from random import Random
from typing import Final

from tests.chaos.faults_process import drain
from tests.chaos.rig import Rig
from tests.chaos.target import LEAVE_S_MAX, ROOT

RESCALE_S_MAX: Final = 120.0
SIZES: Final = {1: 3, 3: 2, 2: 1}
"""1 → 3 → 2 → 1: what comes after each number of cells."""


def kill_supervisor(rig: Rig, rng: Random) -> None:
    """The supervisor dies: its cells may not outlive it."""
    rig.settle(rng.uniform(0.0, 1.0))
    workers = rig.target.workers()
    rig.target.tell_one(rig.target.pid, signal.SIGKILL)
    rig.target.wait_ended(ours=True)
    deadline_s = time.monotonic() + LEAVE_S_MAX
    while rig.target.orphans() and time.monotonic() < deadline_s:
        time.sleep(0.1)
    left = rig.target.orphans()
    if left:
        rig.breaches.append(f"{len(left)} of {len(workers)} cells outlived their supervisor")
        for pid in left:
            rig.target.tell_one(pid, signal.SIGKILL)
        time.sleep(0.5)
    rig.target.killed += len(workers)
    rig.target.start()


def rescale(rig: Rig, rng: Random) -> None:
    """Another number of cells, under load."""
    rig.settle(rng.uniform(0.0, 1.5))
    _rescale(rig)


def rescale_stopped(rig: Rig, _rng: Random) -> None:
    """Another number of cells, while none runs."""
    drain(rig)
    _rescale(rig)
    rig.keep()


def rescale_after_kill(rig: Rig, _rng: Random) -> None:
    """Another number of cells, right after all were killed."""
    rig.target.kill()
    _rescale(rig)
    rig.keep()


def kill_in_rescale(rig: Rig, rng: Random) -> None:
    """Killed while the lanes' state moves, then once more to its end."""
    rig.settle(rng.uniform(0.0, 1.0))
    size = SIZES.get(rig.target.cells, 1)
    command = subprocess.Popen(
        _command(size), cwd=ROOT, env=_armed(rig, rng), stdin=subprocess.DEVNULL
    )
    time.sleep(rng.uniform(0.2, 4.0))
    command.kill()
    command.wait()
    rig.target.kill()
    _rescale(rig)
    rig.keep()


def _armed(rig: Rig, rng: Random) -> dict[str, str]:
    more = {"AIRSIDE_CRASH_AT": "rescaling"} if rng.random() < 0.5 else {}
    return {**rig.target.environment, **more}


def _command(size: int) -> list[str]:
    return [sys.executable, "-m", "flows", "rescale", "ingest", "--cells", str(size)]


def _rescale(rig: Rig) -> None:
    size = SIZES.get(rig.target.cells, 1)
    ran = subprocess.run(
        _command(size),
        cwd=ROOT,
        env=rig.target.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=RESCALE_S_MAX,
        check=False,
    )
    if ran.returncode:
        rig.breaches.append(f"rescale to {size} gave {ran.returncode}: {ran.stderr[-300:]}")
    else:
        rig.target.cells = size
        rig.hits["rescaled"] += 1
