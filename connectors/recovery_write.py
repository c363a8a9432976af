"""Write a recovery store of Bytewax: with given states, or without what a dead execution left.

For Bytewax 0.21.1, whose store layout `connectors.recovery` reads; a test resumes from the
result with the engine itself.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Final

from bytewax.recovery import init_db_dir

from connectors.disk import sync_path
from connectors.recovery import FIRST_EPOCH, StateKey, epoch_of_whole, files_of
from schemas.errors import TransientError

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
    repeated epoch is durable. So this is for each start, before the engine has the store open, and
    while nobody else has: of an epoch that is just being saved it would take what is there.
    Where parts are missing or do not fit together nobody knows where the next start begins, and
    nothing is removed.
    Errors: TransientError when a file cannot be read or written.
    Source: Bytewax 0.21.1, src/recovery.rs: snapshots are taken of awoken keys, loaded below the
    epoch to resume from, and removed once newer ones are there.
    """
    try:
        with ExitStack() as stack:
            files = files_of(folder)
            parts = [stack.enter_context(_begun(path)) for path in files]
            epoch = epoch_of_whole(parts)
            if epoch is None:
                return 0
            query = "DELETE FROM snaps WHERE snap_epoch >= ?"
            removed = sum(part.execute(query, (epoch,)).rowcount for part in parts)
            for part in parts:
                part.execute("COMMIT")
            return removed
    except sqlite3.Error as err:
        raise TransientError(
            do="prepare",
            kind="recovery store",
            name=folder.name,
            found=f"SQLite error {getattr(err, 'sqlite_errorname', type(err).__name__)}",
            hint="see that the disk has room and that no other process has the store open; nothing "
            "is lost",
        ) from None


@contextmanager
def _begun(path: Path) -> Iterator[sqlite3.Connection]:
    """A file of a store, for this one alone until it is closed; what is not committed is undone."""
    with closing(sqlite3.connect(path, timeout=_BUSY_S_MAX, isolation_level=None)) as part:
        part.execute("BEGIN IMMEDIATE")
        yield part
