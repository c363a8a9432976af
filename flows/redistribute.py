"""Give the lanes of a flow to another number of cells, with their state.

The new stores are written beside the old ones, then the manifest is replaced, and only then do
the old ones go: a crash at any moment leaves one set that counts, the one in the manifest.
What was published is safe in any case: transactions and their watermarks belong to lanes, and not
to cells.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Final

import msgspec

from connectors.crash import crash_point
from connectors.recovery import StateKey, read_store
from connectors.recovery_write import write_store
from flows.cells import Cell, Home, Manifest, locked, remove_others
from schemas.errors import PermanentError

_LOCK_S_MAX: Final = 30.0


def redistribute(home: Home, manifest: Manifest, cells: int) -> Manifest:
    """Move all lanes' states into the stores of `cells` cells; gives the new manifest.

    The caller owns the flow; all its cells have ended.
    Errors: TransientError when a cell still has its store; PermanentError for a store that cannot
    be read whole. Nothing has changed then.
    """
    with ExitStack() as stack:
        for number in range(manifest.cells):
            old = Cell(number, manifest.cells)
            name = f"{home.flow_id}/{old.name}"
            lock = home.store(old) / "lock"
            stack.enter_context(
                locked(lock, kind="recovery store", name=name, wait_s_max=_LOCK_S_MAX)
            )
        states = _read_states(home, manifest)
        for number in range(cells):
            cell = Cell(number, cells)
            keys = cell.lanes(manifest.lanes)
            mine = {place: state for place, state in states.items() if int(place[1]) in keys}
            write_store(home.store(cell), mine)
            crash_point("rescaling")
        fresh = msgspec.structs.replace(manifest, cells=cells, generation=manifest.generation + 1)
        home.write_manifest(fresh)
    remove_others(home, fresh)
    return fresh


def _read_states(home: Home, manifest: Manifest) -> dict[StateKey, bytes]:
    """The newest state of every step and lane, from all cells' stores."""
    states: dict[StateKey, bytes] = {}
    for number in range(manifest.cells):
        cell = Cell(number, manifest.cells)
        folder = home.store(cell)
        if not any(folder.glob("part-*.sqlite3")):
            continue  # never started: its lanes begin at the beginning
        store = read_store(folder)
        if store.missing or store.too_old:
            raise PermanentError(
                do="read",
                kind="recovery store",
                name=f"{home.flow_id}/{cell.name}",
                found="parts that are missing, or older than the others",
                hint="restore the folder from a backup, whole",
            )
        own = cell.lanes(manifest.lanes)
        states.update(
            (place, state)
            for place, state in store.states.items()
            if state is not None and int(place[1]) in own
        )
    return states
