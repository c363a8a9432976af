"""Cells: the processes that share one flow's lanes on a machine, and what keeps them apart.

A cell is one process with a recovery store of its own, so a crash stops its lanes and no others.
One owner at a time runs a flow: a supervisor, or a single cell without one. Each start of an
owner is a generation; a cell of another generation does not start.
Source: research/engine sections 5.4 and 6.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import IO, Any, Final, NamedTuple, TypeVar

import msgspec
import structlog
from bytewax.recovery import RecoveryConfig, init_db_dir

from connectors.disk import sync_path
from connectors.recovery import check_store, find_cells, read_store
from connectors.recovery_write import forget_ahead
from schemas.errors import ConfigError, TransientError

_log = structlog.get_logger(__name__)

RECOVERY_PARTS: Final = 1
_LOCK_PAUSE_S: Final = 0.1

T = TypeVar("T")


class Cell(NamedTuple):
    """One of `cells` cells: it has the lanes that leave `number` when divided by `cells`.

    >>> Cell(1, 3)
    Cell(number=1, cells=3)
    >>> list(Cell(1, 3).lanes(8))
    [1, 4, 7]
    """

    number: int = 0
    cells: int = 1

    def lanes(self, lanes: int) -> range:
        """The lanes of this cell, of so many in all."""
        return range(self.number, lanes, self.cells)

    @property
    def name(self) -> str:
        """The name of its store's folder."""
        return f"cell-{self.number}-of-{self.cells}"


class Manifest(msgspec.Struct, frozen=True):
    """What a flow's stores were made for. The owner of a generation raises `generation`.

    Shapes: `node` is empty where an earlier release wrote it; the next start fills it in.
    """

    flow: str
    lanes: int
    steps: tuple[str, ...]
    cells: int
    generation: int = 0
    node: str = ""


class Lease(msgspec.Struct, frozen=True):
    """Who runs a flow now.

    Shapes: `state` is running, draining, rescaling or stopped; `children` are process groups
    by cell.
    """

    generation: int
    cells: int
    pid: int
    state: str
    children: dict[str, int]


class Home:
    """The files of one flow in the data folder."""

    def __init__(self, data: Path, flow_id: str) -> None:
        self.flow_id = flow_id
        self.stores = data / "recovery" / flow_id
        self.run = data / "run" / flow_id
        self.manifest_file = self.stores / "manifest.json"
        self.lease_file = self.run / "lease.json"
        self.wish_file = self.run / "wish"
        self.refusal_file = self.run / "wish.refused"
        self.exits_file = self.run / "exits.jsonl"

    def store(self, cell: Cell) -> Path:
        """The folder of a cell's recovery store."""
        return self.stores / cell.name

    def sign(self, cell: Cell) -> Path:
        """The file that a cell touches when it got further."""
        return self.run / f"{cell.name}.alive"

    def error_file(self, cell: Cell) -> Path:
        """Where a cell says what ended it."""
        return self.run / f"{cell.name}.error"

    def read_manifest(self) -> Manifest | None:
        """What the stores were made for; None when there are none."""
        return _read(self.manifest_file, Manifest)

    def read_lease(self) -> Lease | None:
        """Who runs the flow, as far as was written; None before the first start."""
        return _read(self.lease_file, Lease)

    def write_manifest(self, manifest: Manifest) -> None:
        """Replace the manifest as a whole, durably: it says which stores count."""
        replace_file(self.manifest_file, msgspec.json.encode(manifest))

    def write_lease(self, lease: Lease) -> None:
        """Replace the lease as a whole, if the disk takes it."""
        with spared("lease"):
            replace_file(self.lease_file, msgspec.json.encode(lease))


def _read(path: Path, kind: type[T]) -> T | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except FileNotFoundError:
        return None
    except msgspec.MsgspecError as err:
        raise ConfigError(
            do="read",
            kind="file",
            name=path.name,
            found="not what Airside writes there",
            hint="restore it from a copy, or start from an empty data folder",
        ) from err


def replace_file(path: Path, content: bytes) -> None:
    """Write a file so that a crash leaves the old content or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(path.name + ".new")
    with fresh.open("wb") as out:
        out.write(content)
        out.flush()
        os.fsync(out.fileno())
    fresh.replace(path)
    sync_path(path.parent)


@contextmanager
def locked(
    path: Path, *, kind: str, name: str, wait_s_max: float = 0.0, place: str = "AIRSIDE_DATA"
) -> Iterator[None]:
    """Hold a file's lock; the system lets it go when this process ends in any way.

    Shapes: `place` is what an operator sets to have the file elsewhere, for the hint.
    Errors: ConfigError when another process holds it, TransientError when it still does after
    `wait_s_max`; ConfigError when it cannot be made.
    """
    deadline_s = time.monotonic() + wait_s_max
    with _open_lock(path, place) as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if time.monotonic() >= deadline_s:
                    family = TransientError if wait_s_max else ConfigError
                    raise family(
                        do="open",
                        kind=kind,
                        name=name,
                        found="another process using it",
                        hint=f"stop that one first, or set another {place}",
                    ) from None
            time.sleep(_LOCK_PAUSE_S)
        yield


def _open_lock(path: Path, place: str) -> IO[str]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("a")
    except OSError as err:
        raise ConfigError(
            do="open",
            kind="folder",
            name=str(path.parent),
            found=err.strerror or "no access",
            expected="one that can be made and written",
            hint=f"set another {place}",
        ) from None


@contextmanager
def owned(home: Home, shape: Manifest) -> Iterator[Manifest]:
    """Own a flow: nobody else runs or rescales it on this data folder meanwhile.

    `shape` is what the settings ask for; the manifest that comes back has a new generation.
    Errors: ConfigError when somebody owns it, or when its stores were made for another shape.
    """
    with locked(home.run / "lock", kind="flow", name=home.flow_id):
        found = home.read_manifest()
        if found is not None:
            compare(found, shape)
        else:
            _make_stores(home, shape)
        manifest = msgspec.structs.replace(
            shape, generation=1 if found is None else found.generation + 1
        )
        home.write_manifest(manifest)
        remove_others(home, manifest)
        yield manifest


def _make_stores(home: Home, shape: Manifest) -> None:
    """Make the stores of a flow that never ran here.

    Errors: ConfigError when there is a store with state in it, whose manifest is gone.
    """
    for cell in find_cells(home.stores):
        if read_store(cell.folder).execution >= 0:
            raise ConfigError(
                do="read",
                kind="file",
                name=home.manifest_file.name,
                found=f"none beside {cell.folder.name}, which holds state",
                hint="restore the folder recovery as a whole, or start from an empty data folder",
            )
    for number in range(shape.cells):
        folder = home.store(Cell(number, shape.cells))
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        init_db_dir(folder, RECOVERY_PARTS)
        _log.info("store_made", flow=home.flow_id, store=folder.name)


def remove_others(home: Home, manifest: Manifest) -> None:
    """Remove what a rescaling left: stores for another number of cells than the manifest's."""
    for cell in find_cells(home.stores):
        if cell.of != manifest.cells and cell.folder != home.stores:
            shutil.rmtree(cell.folder)
            _log.info("store_removed", flow=manifest.flow, store=cell.folder.name)


def compare(found: Manifest, shape: Manifest) -> None:
    """Make sure that stores fit the settings.

    Errors: ConfigError naming the difference and the next step.
    """
    hints = {
        "cells": f"run `airside rescale {shape.flow} --cells {shape.cells}`",
        # Its transactions know what was published; under another name that would be forgotten.
        "node": f"set AIRSIDE_NODE={found.node}, or start from an empty data folder",
    }
    for part in ("flow", "lanes", "steps", "cells", "node"):
        has, wanted = getattr(found, part), getattr(shape, part)
        if has not in (wanted, ""):
            raise ConfigError(
                do="resume",
                kind="recovery store",
                name=shape.flow,
                found=f"{part} {_text(has)}",
                expected=f"{part} {_text(wanted)}",
                hint=hints.get(part, "start as it was made, or from an empty data folder"),
            )


def _text(value: Any) -> str:
    return ", ".join(value) if isinstance(value, tuple) else str(value)


@contextmanager
def opened_store(
    home: Home, cell: Cell, *, generation: int, wait_s_max: float = 0.0
) -> Iterator[RecoveryConfig]:
    """Open a cell's recovery store for this process alone.

    Errors: ConfigError when the flow is in another generation by now, another process has it, or
    it is gone; PermanentError when it is damaged.
    """
    folder = home.store(cell)
    name = f"{home.flow_id}/{cell.name}"
    with locked(folder / "lock", kind="recovery store", name=name, wait_s_max=wait_s_max):
        manifest = home.read_manifest()
        found = (manifest.generation, manifest.cells) if manifest else (0, 0)
        if found != (generation, cell.cells):
            raise ConfigError(
                do="open",
                kind="recovery store",
                name=name,
                found=f"generation {found[0]} of {found[1]} cells",
                expected=f"generation {generation} of {cell.cells} cells",
                hint="start the flow with `airside run`, which starts its cells",
            )
        if not any(folder.glob("part-*.sqlite3")):
            raise ConfigError(
                do="open",
                kind="recovery store",
                name=name,
                found="no files part-*.sqlite3",
                expected="the state of this cell's lanes",
                hint="restore the folder from a backup, or start from an empty data folder",
            )
        check_store(folder)  # a damaged one is told here, and not by the engine's panic
        forgotten = forget_ahead(folder)
        if forgotten:
            _log.info("epoch_in_doubt", store=name, snapshots=forgotten, doing="repeated")
        yield RecoveryConfig(folder, backup_interval=timedelta(0))


def say_error(home: Home, cell: Cell, error: Mapping[str, Any]) -> None:
    """Leave a note about what ended this cell, for the exit report, if the disk takes it."""
    with spared("error note"):
        replace_file(home.error_file(cell), msgspec.json.encode(error))


@contextmanager
def spared(what: str) -> Iterator[None]:
    """Go on without a file that only informs: a full disk must not hide what else went wrong."""
    try:
        yield
    except OSError as err:
        _log.error("not_written", what=what, error=err.strerror)
