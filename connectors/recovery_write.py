"""Write a recovery store of Bytewax that holds given states, as if one epoch had saved them.

For Bytewax 0.21.1, whose store layout `connectors.recovery` reads; a test resumes from the
result with the engine itself.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from bytewax.recovery import init_db_dir

from connectors.disk import sync_path
from connectors.recovery import FIRST_EPOCH, StateKey


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
