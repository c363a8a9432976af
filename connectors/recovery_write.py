"""Write a recovery store of Bytewax: with given states, or without what a dead execution left.

For Bytewax 0.21.1, whose store layout `connectors.recovery` reads; a test resumes from the
result with the engine itself.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from bytewax.recovery import init_db_dir

from connectors.disk import sync_path
from connectors.recovery import FIRST_EPOCH, StateKey, files_of, read_store

_BUSY_S_MAX: Final = 5.0


def write_store(folder: Path, states: Mapping[StateKey, bytes], *, parts: int = 1) -> None:
    """Make a store with these states, durably; what the folder held before is gone.

    Shapes: states by (step id, key), pickled as the engine does.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    init_db_dir(folder, parts)
    files = sorted(folder.glob("part-*.sqlite3"))
    with closing(sqlite3.connect(files[0])) as part, part:
        part.execute(
            "INSERT INTO exs (ex_num, worker_count, resume_epoch) VALUES (0, 1, ?)",
            (FIRST_EPOCH,),
        )
        part.execute(
            "INSERT INTO fronts (ex_num, worker_index, worker_frontier) VALUES (0, 0, ?)",
            (FIRST_EPOCH + 1,),
        )
        part.executemany(
            "INSERT INTO snaps (step_id, state_key, snap_epoch, ser_change) VALUES (?, ?, ?, ?)",
            [(*key, FIRST_EPOCH, state) for key, state in sorted(states.items())],
        )
    for path in [*folder.iterdir(), folder]:
        sync_path(path)


def forget_ahead(folder: Path) -> int:
    """Remove snapshots of epochs that did not become durable; gives how many there were.

    Promise: a start reads no snapshot of an epoch that an earlier execution did not end. The engine
    ignores them at the next start, and the epoch that is repeated writes over those of the keys
    that it meets; a key that it does not meet keeps what is ahead of it, and that is read once the
    repeated epoch is durable. So this is for each start, before the engine has the store open.
    Without all parts of a store nobody knows where the next start begins, and nothing is removed.
    Errors: those of `read_store`.
    Source: Bytewax 0.21.1, src/recovery.rs: snapshots are taken of awoken keys, loaded below the
    epoch to resume from, and removed once newer ones are there.
    """
    if not files_of(folder):
        return 0
    with _alone(folder):
        store = read_store(folder)
        if store.missing:
            return 0
        return sum(_forget_from(store.resume_epoch, path) for path in files_of(folder))


def _forget_from(epoch: int, path: Path) -> int:
    with closing(sqlite3.connect(path, timeout=_BUSY_S_MAX)) as part, part:
        return part.execute("DELETE FROM snaps WHERE snap_epoch >= ?", (epoch,)).rowcount


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let processes of one machine that share a store do this one after the other."""
    place = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(place, fcntl.LOCK_EX)
        yield
    finally:
        os.close(place)
