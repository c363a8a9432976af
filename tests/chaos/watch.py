"""Look at the target from outside, a few times a second: is it durable, how large is it."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Final

from tests.chaos.target import Target

LOOK_S: Final = 0.2
COMMIT_AGE_S_MAX: Final = 75.0
"""A process that made nothing durable for longer has stalled in silence."""

RSS_MB_MAX: Final = 1_024


class Watch:
    """Samples the age of the last durable epoch, the memory and the stores.

    A store's files are written whenever an epoch becomes durable, so their time tells it.
    State: the greatest values seen, and how long each start took to its first durable epoch.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self.commit_age_s_max = 0.0
        self.rss_mb_max = 0
        self.store_bytes = 0
        self.recovery_s: list[float] = []
        self._measured = 0.0

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no longer."""
        self._stop.set()
        self._thread.join(5.0)

    def _run(self) -> None:
        while not self._stop.wait(LOOK_S):
            if self._target.is_running():
                self.look(time.time())

    def look(self, now_s: float) -> None:
        """Take one sample."""
        started_s = self._target.started_s
        durable_s = durable_at(self._target.recovery)
        if durable_s > started_s and self._measured != started_s:
            self._measured = started_s
            self.recovery_s.append(durable_s - started_s)
        self.commit_age_s_max = max(self.commit_age_s_max, now_s - max(durable_s, started_s))
        self.store_bytes = store_bytes(self._target.recovery)
        for pid in self._target.programs():
            self.rss_mb_max = max(self.rss_mb_max, rss_mb(pid))


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*.sqlite3*") if path.is_file()]


def durable_at(folder: Path) -> float:
    """When the stalest store of the newest set was last written; 0 before the first.

    Shapes: `cell-<i>-of-<n>` folders of other n are of an earlier set and do not count.
    """
    stores: dict[Path, float] = {}
    for path in _files(folder):
        try:
            written_s = path.stat().st_mtime
        except OSError:
            continue  # it went between the listing and the look
        stores[path.parent] = max(stores.get(path.parent, 0.0), written_s)
    if not stores:
        return 0.0
    newest = max(stores, key=lambda store: stores[store])
    suffix = newest.name.rpartition("-of-")[2]
    return min(at for store, at in stores.items() if store.name.rpartition("-of-")[2] == suffix)


def store_bytes(folder: Path) -> int:
    """The size of all stores together."""
    total = 0
    for path in _files(folder):
        try:
            total += path.stat().st_size
        except OSError:
            continue
    return total


def store_bytes_max(*, facts: int, cells: int, journeys: int = 0) -> int:
    """What the stores may take for so much live state.

    A remembered event is about 50 bytes, a cell about 400, a journey with its people and their
    plans 2 kB; the store keeps the last few snapshots, and a file keeps the room it once had.

    >>> store_bytes_max(facts=0, cells=0) // 2**20
    48
    """
    return 48 * 2**20 + 16 * (64 * facts + 512 * cells + 2_048 * journeys)


def rss_mb(pid: int) -> int:
    """The memory of a process in mebibytes; 0 for one that is gone."""
    try:
        words = Path(f"/proc/{pid}/statm").read_text().split()
    except OSError:
        return 0
    return int(words[1]) * 4_096 // 2**20
