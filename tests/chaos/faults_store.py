"""Faults of the recovery store: its disk full, its bytes changed, the whole of it gone."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from random import Random
from typing import Final

from tests.chaos.faults_process import drain
from tests.chaos.rig import Rig, has_reason, reason_of
from tests.chaos.target import is_alive

FULL_S_MAX: Final = 90.0
FULL_BYTES: Final = 65_536
REPORT_S_MAX: Final = 3.0


def store_full(rig: Rig, rng: Random) -> None:
    """No file of the workers may grow: they end with a reason, and go on once there is room."""
    rig.settle(rng.uniform(0.5, 1.0))
    rig.ready()
    ends = len(rig.target.cell_exits())
    limited = rig.target.programs()
    rig.target.limit_files(FULL_BYTES)
    deadline_s = time.monotonic() + FULL_S_MAX
    while any(map(is_alive, limited)) and time.monotonic() < deadline_s:
        time.sleep(0.05)
    if any(map(is_alive, limited)):
        rig.breaches.append("a full disk did not end the process")
        rig.target.kill()
    reported_s = time.monotonic() + REPORT_S_MAX
    while rig.target.is_running() and len(rig.target.cell_exits()) == ends:
        if time.monotonic() > reported_s:
            break
        time.sleep(0.05)
    ended = rig.target.noticed_end()
    told = [reason_of(ended.words)] if ended else []
    told += [end["error"] for end in rig.target.cell_exits()[ends:]]
    rig.notes.append(f"disk full: {told[-1] if told else 'no end'}")
    if ended:
        rig.judge_exit()
    rig.keep()


def store_corrupt(rig: Rig, rng: Random) -> None:
    """Bytes of the store are changed while it does not run: refused, until it is restored."""
    drain(rig)
    backup = rig.folder / "backup"
    shutil.rmtree(backup, ignore_errors=True)
    shutil.copytree(rig.target.recovery, backup)
    spoil(rig.target.recovery, rng)
    ends = len(rig.target.cell_exits())
    rig.target.start(wait=False)
    deadline_s = time.monotonic() + FULL_S_MAX
    while rig.target.is_running() and len(rig.target.cell_exits()) == ends:
        if time.monotonic() > deadline_s:
            rig.breaches.append("a corrupt store was not refused")
            break
        time.sleep(0.1)
    codes = [end["code"] for end in rig.target.cell_exits()[ends:]]
    if rig.target.is_running():
        rig.target.kill()
    else:
        ended = rig.target.noticed_end(ours=True)
        assert ended is not None
        codes.append(ended.code)
    words = rig.target.words()
    rig.notes.append(f"corrupt store: exits {codes}: {reason_of(words)}")
    if not codes or min(codes) <= 0 or not has_reason(words):
        rig.breaches.append(f"a corrupt store gave exits {codes}: {reason_of(words)}")
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
