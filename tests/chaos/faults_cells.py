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

RESCALE_S_MAX: Final = 200.0
SIZES: Final = {1: 3, 3: 2, 2: 1}
"""1 → 3 → 2 → 1: what comes after each number of cells."""


def kill_supervisor(rig: Rig, rng: Random) -> None:
    """The supervisor dies: its cells drain and may not outlive it by more than that.

    Every other time it is started again at once, while they still do.
    """
    rig.ready()
    rig.settle_alive(rng.uniform(0.0, 1.0))
    rig.target.killed += rig.target.tell_one(rig.target.pid, signal.SIGKILL)
    rig.target.wait_ended(ours=True)
    if rng.random() < 0.5:
        wait_gone(rig)
    rig.target.start()


def wait_gone(rig: Rig) -> None:
    """Wait until nothing of it is left; what is left after the bound is a breach, and killed."""
    deadline_s = time.monotonic() + LEAVE_S_MAX
    while rig.target.orphans() and time.monotonic() < deadline_s:
        time.sleep(0.1)
    left = rig.target.orphans()
    if left:
        rig.breaches.append(f"{len(left)} processes outlived their supervisor")
    for pid in left:
        rig.target.tell_one(pid, signal.SIGKILL)


def rescale(rig: Rig, rng: Random) -> None:
    """Another number of cells, under load."""
    rig.ready()
    rig.settle_alive(rng.uniform(0.0, 1.5))
    _rescale(rig)


def rescale_stopped(rig: Rig, _rng: Random) -> None:
    """Another number of cells, while none runs."""
    drain(rig)
    _rescale(rig)
    rig.keep()


def rescale_after_kill(rig: Rig, _rng: Random) -> None:
    """Another number of cells, right after all were killed."""
    rig.target.kill()
    wait_gone(rig)
    _rescale(rig)
    rig.keep()


def kill_in_rescale(rig: Rig, rng: Random) -> None:
    """Killed while the lanes' states move, then once more to its end.

    Either the command itself moves them and dies half way; or the supervisor does, and it, its
    cells and the command die at any moment.
    """
    size = SIZES.get(rig.target.cells, 1)
    if rng.random() < 0.5:
        drain(rig)
        armed = {**rig.target.environment, "AIRSIDE_CRASH_AT": "rescaling"}
        ran = subprocess.run(
            _command(rig, size),
            cwd=ROOT,
            env=armed,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=RESCALE_S_MAX,
            check=False,
        )
        rig.target.killed += ran.returncode == -signal.SIGKILL
        rig.hits["rescaling"] += ran.returncode == -signal.SIGKILL
    else:
        rig.ready()
        command = subprocess.Popen(
            _command(rig, size),
            cwd=ROOT,
            env=rig.target.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(rng.uniform(0.5, 4.0))
        command.kill()
        command.wait()
        rig.target.kill()
    wait_gone(rig)
    rig.target.cells = rig.target.stored_cells()
    _rescale(rig)
    rig.keep()


def _command(rig: Rig, size: int) -> list[str]:
    return [sys.executable, "-m", "flows", "rescale", rig.target.flow, "--cells", str(size)]


def _rescale(rig: Rig) -> None:
    size = SIZES.get(rig.target.cells, 1)
    ran = subprocess.run(
        _command(rig, size),
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
        rig.hits["rescaled"] += 1
        rig.hits[f"rescaled_{rig.target.cells}_to_{size}"] += 1
    rig.target.cells = rig.target.stored_cells()
