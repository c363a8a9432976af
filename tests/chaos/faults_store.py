"""Faults of the recovery store: its disk full, its bytes changed, the whole of it gone."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from random import Random
from typing import Final

from tests.chaos.faults_process import drain
from tests.chaos.rig import Rig, has_reason, reason_of
from tests.chaos.target import StuckError

FULL_S_MAX: Final = 20.0
FULL_BYTES: Final = 65_536


def store_full(rig: Rig, rng: Random) -> None:
    """No file of the worker may grow: it ends with a reason, and goes on once there is room."""
    rig.settle(rng.uniform(0.5, 1.0))
    ends = len(rig.target.exits)
    rig.target.limit_files(FULL_BYTES)
    deadline_s = time.monotonic() + FULL_S_MAX
    while rig.target.is_running() and time.monotonic() < deadline_s:
        time.sleep(0.05)
    if rig.target.is_running():
        rig.breaches.append("a full disk did not end the process")
        rig.target.kill()
    rig.target.noticed_end()
    if len(rig.target.exits) > ends:
        rig.judge_exit()
    rig.keep()


def store_corrupt(rig: Rig, rng: Random) -> None:
    """Bytes of the store are changed while it does not run: refused, until it is restored."""
    drain(rig)
    backup = rig.folder / "backup"
    shutil.rmtree(backup, ignore_errors=True)
    shutil.copytree(rig.target.recovery, backup)
    spoil(rig.target.recovery, rng)
    rig.target.start(wait=False)
    try:
        code = rig.target.wait_ended(ours=False, seconds=FULL_S_MAX)
    except StuckError:
        code = rig.target.exits[-1].code
    words = rig.target.exits[-1].words
    if code <= 0 or not has_reason(words):
        rig.breaches.append(f"a corrupt store gave exit {code}: {reason_of(words)}")
    else:
        rig.notes.append(f"corrupt store: exit {code}")
    shutil.rmtree(rig.target.recovery)
    shutil.copytree(backup, rig.target.recovery)
    rig.keep()


def spoil(folder: Path, rng: Random) -> None:
    """Overwrite the head of a store's file, and the log beside it."""
    files = sorted(folder.rglob("*.sqlite3"))
    victim = rng.choice(files)
    with victim.open("r+b") as file:
        file.write(rng.randbytes(4_096))
    for beside in victim.parent.glob(f"{victim.name}-*"):
        beside.unlink()


def store_deleted(rig: Rig, _rng: Random) -> None:
    """The store is gone: everything is read again from the first offset, and nothing changes."""
    drain(rig)
    shutil.rmtree(rig.target.recovery)
    rig.target.start()
