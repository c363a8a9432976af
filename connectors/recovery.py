"""Read a recovery store of Bytewax without changing it: what the next start would resume from.

Bytewax 0.21.1 keeps a store as SQLite files `part-<i>.sqlite3`, in WAL mode. Rows about
executions, worker frontiers and snapshots lie in any of them, so all parts make one answer.
"""

from __future__ import annotations

import fcntl
import io
import pickle
import re
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from schemas.errors import ConfigError, PermanentError

StateKey = tuple[str, str]

FIRST_EPOCH: Final = 1
"""Where an execution begins that nothing was saved for."""

_PART: Final = re.compile(r"part-(\d+)\.sqlite3")
_CELL: Final = re.compile(r"cell-(\d+)-of-(\d+)")
_BUSY_S_MAX: Final = 5.0


class Part(NamedTuple):
    """One file: its number among so many, and the epoch up to which it forgot older snapshots."""

    number: int
    of: int
    commit_epoch: int | None


class Store(NamedTuple):
    """A recovery store as the next start finds it.

    Shapes: `missing` are numbers of parts without a file; `states` is by (step id, key) the
    newest snapshot below `resume_epoch`, pickled by the engine; None where it was discarded.
    `null_rows` counts discarded snapshots of any epoch. `execution` is the number of the last
    one, -1 before the first.
    Units: `size_bytes` on disk, with the write-ahead logs.
    """

    parts: tuple[Part, ...]
    missing: tuple[int, ...]
    execution: int
    resume_epoch: int
    states: Mapping[StateKey, bytes | None]
    null_rows: int
    size_bytes: int

    @property
    def too_old(self) -> tuple[int, ...]:
        """Parts that forgot what this epoch needs: another part is an older copy."""
        return tuple(
            part.number
            for part in self.parts
            if part.commit_epoch is not None and part.commit_epoch > self.resume_epoch
        )


class Cell(NamedTuple):
    """One store folder of a flow: cell `number` of `of`; 0 of 1 for a store without cells."""

    folder: Path
    number: int
    of: int


def find_cells(folder: Path) -> list[Cell]:
    """All store folders of one flow: `cell-<i>-of-<n>` below it, or the folder itself.

    Shapes: none when the flow never started here.
    """
    cells = []
    for path in sorted(folder.glob("cell-*-of-*")):
        match = _CELL.fullmatch(path.name)
        if match and path.is_dir():
            cells.append(Cell(path, int(match[1]), int(match[2])))
    if not cells and files_of(folder):
        cells.append(Cell(folder, 0, 1))
    return sorted(cells, key=lambda cell: (cell.of, cell.number))


def is_in_use(lock: Path) -> bool:
    """Tell whether a process holds this lock file.

    The lock is asked for as a reader and let go at once: others are in each other's way only
    for that moment.
    """
    try:
        with lock.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False  # no such file, or none of ours to open: nobody was ever here
    return False


def read_store(folder: Path) -> Store:
    """Read one store folder, and check that SQLite finds its files sound.

    Nothing is written and no file is made, so a store in use may be read; its last epoch may
    then be half there. Damage inside a snapshot's bytes is not seen here.
    Errors: ConfigError when there is no store; PermanentError when a file cannot be read.
    """
    files = files_of(folder)
    if not files:
        raise ConfigError(
            do="read", kind="recovery store", name=folder.name, found="no file part-*.sqlite3"
        )
    with _opened(files) as parts:
        return _read(parts, files)


def check_store(folder: Path) -> None:
    """Check that SQLite finds a store's files sound; their states are not read.

    Errors: as `read_store`.
    """
    with _opened(files_of(folder)):
        pass


@contextmanager
def _opened(files: list[Path]) -> Iterator[list[sqlite3.Connection]]:
    with ExitStack() as stack:
        try:
            parts = [stack.enter_context(closing(_open(path))) for path in files]
            for part, path in zip(parts, files, strict=True):
                _check(part, path)
            yield parts
        except sqlite3.Error as err:
            raise PermanentError(
                do="read",
                kind="recovery store",
                name=files[0].parent.name,
                found=f"SQLite error {getattr(err, 'sqlite_errorname', type(err).__name__)}",
                hint="restore the folder from a backup, whole",
            ) from None


def files_of(folder: Path) -> list[Path]:
    """The files of a store, by their number."""
    found = [path for path in folder.glob("part-*.sqlite3") if _PART.fullmatch(path.name)]
    return sorted(found, key=lambda path: int(path.stem.removeprefix("part-")))


def _open(path: Path) -> sqlite3.Connection:
    """Open a file so that nothing beside it comes into being.

    Without a write-ahead log nobody has it open and it is whole by itself: `immutable` keeps
    SQLite from making one. With one, a reader takes its part of the log and leaves it there.
    """
    logged = path.with_name(path.name + "-wal").exists()
    place = f"file:{quote(str(path.absolute()))}?mode=ro" + ("" if logged else "&immutable=1")
    part = sqlite3.connect(place, uri=True, timeout=_BUSY_S_MAX, isolation_level=None)
    try:
        part.execute("BEGIN")
        part.execute("SELECT count(*) FROM parts").fetchone()  # from now on one moment of the file
    except sqlite3.Error:
        part.close()
        raise
    return part


def _check(part: sqlite3.Connection, path: Path) -> None:
    if part.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
        raise PermanentError(
            do="trust",
            kind="recovery store",
            name=path.name,
            found="a damaged file (SQLite's quick_check)",
            hint="restore the folder from a backup, whole",
        )


def epoch_of_whole(parts: list[sqlite3.Connection]) -> int | None:
    """The epoch that the next start resumes from; None where not all parts are of one moment."""
    found = _parts_of(parts)
    epoch = _resume_from(parts)[1]
    numbers = sorted(part.number for part in found)
    is_whole = bool(found) and all(numbers == [*range(part.of)] for part in found)
    fits = all(part.commit_epoch is None or part.commit_epoch <= epoch for part in found)
    return epoch if is_whole and fits else None


def _parts_of(parts: list[sqlite3.Connection]) -> list[Part]:
    commits = dict(_rows(parts, "SELECT part_index, commit_epoch FROM commits"))
    return [
        Part(number, of, commits.get(number))
        for number, of in _rows(parts, "SELECT part_index, part_count FROM parts")
    ]


def _read(parts: list[sqlite3.Connection], files: list[Path]) -> Store:
    found = _parts_of(parts)
    execution, resume_epoch = _resume_from(parts)
    here = {part.number for part in found}
    wanted = max((part.of for part in found), default=0)
    return Store(
        parts=tuple(sorted(found)),
        missing=tuple(number for number in range(wanted) if number not in here),
        execution=execution,
        resume_epoch=resume_epoch,
        states=MappingProxyType(_states(parts, resume_epoch)),
        null_rows=sum(
            count
            for (count,) in _rows(parts, "SELECT count(*) FROM snaps WHERE ser_change IS NULL")
        ),
        size_bytes=sum(_size(path) for path in files),
    )


def _rows(parts: list[sqlite3.Connection], query: str, *values: Any) -> Iterator[Any]:
    for part in parts:
        yield from part.execute(query, values)


def _resume_from(parts: list[sqlite3.Connection]) -> tuple[int, int]:
    """The last execution, and the least epoch that one of its workers did not end.

    A worker that never reported stands where its execution began.
    Source: Bytewax 0.21.1, src/recovery.rs, the query that makes `ResumeFrom`.
    """
    executions = _rows(parts, "SELECT ex_num, worker_count, resume_epoch FROM exs")
    last = max(executions, default=None)
    if last is None:
        return -1, FIRST_EPOCH
    number, workers, began = last
    frontiers = dict.fromkeys(range(workers), began)
    query = "SELECT worker_index, worker_frontier FROM fronts WHERE ex_num = ?"
    for worker, frontier in _rows(parts, query, number):
        frontiers[worker] = max(frontiers.get(worker, began), frontier)
    return number, min(frontiers.values())


def _states(parts: list[sqlite3.Connection], resume_epoch: int) -> dict[StateKey, bytes | None]:
    # SQLite gives the other columns of the row that holds the maximum; all snapshots of one key
    # lie in one part.
    query = (
        "SELECT step_id, state_key, max(snap_epoch), ser_change FROM snaps"
        " WHERE snap_epoch < ? GROUP BY step_id, state_key"
    )
    rows = _rows(parts, query, resume_epoch)
    return {(step_id, key): change for step_id, key, _, change in rows}


def _size(path: Path) -> int:
    log = path.with_name(path.name + "-wal")
    return path.stat().st_size + (log.stat().st_size if log.exists() else 0)


class PlainUnpickler(pickle.Unpickler):
    """Reads pickles of numbers, texts, bytes, and containers of them; nothing that runs code."""

    def find_class(self, _module: str, _name: str) -> Any:
        """Refuse: plain values name no class."""
        raise pickle.UnpicklingError


def load_plain(pickled: bytes) -> Any:
    """Read a pickled plain value.

    Errors: PermanentError for anything else.

    >>> load_plain(pickle.dumps({"version": 1, "next": {("t", 0): 5}}))
    {'version': 1, 'next': {('t', 0): 5}}
    """
    try:
        return PlainUnpickler(io.BytesIO(pickled)).load()
    # What a damaged pickle may raise. Source: the documentation of `pickle.UnpicklingError`.
    except (pickle.UnpicklingError, AttributeError, EOFError, ImportError, IndexError) as err:
        raise _no_plain(err) from None
    except (ValueError, TypeError, KeyError, OverflowError, MemoryError) as err:
        raise _no_plain(err) from None


def _no_plain(err: BaseException) -> PermanentError:
    return PermanentError(
        do="read",
        kind="snapshot",
        found=f"no plain pickle ({type(err).__name__})",
        hint="restore the folder from a backup, whole",
    )
