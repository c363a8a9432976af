"""Keep a state that grows beside the recovery store: what changed since, and seldom the whole.

The engine saves a state as one value with every epoch. Of a state with a million entries that is a
second of work and a hundred megabytes each time, for the few entries that changed. So such a state
goes to a file of its own: the whole once, then a chunk of changes for each epoch; the engine saves
only how far the file counts. Once changes outgrow the whole, a new file begins with a new whole.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from struct import Struct
from typing import Final, NamedTuple
from zlib import crc32

from connectors.disk import disk_error, sync_path
from schemas.errors import PermanentError

Mark = tuple[str, int, int]
"""How far a journal counts: its name, the number of its file, and so many bytes of that."""

_FREE_BYTES: Final = 1 << 20
_HEAD: Final = Struct("<QI")
_PIECE: Final = 1 << 30
_FILE: Final = re.compile(r"(.+)\.(\d{8})\.journal")


class Journal:
    """One state's file in a folder, for one process at a time.

    Delivery: what `save` wrote is durable when it returns, and counts once the engine saved the
    mark that it gave; `read` drops what lies behind that mark. A file that a mark may still name is
    kept: one goes with the second `save` after the one that replaced it.
    State: on disk, up to about twice the whole and a megabyte; while a file is replaced, both.
    Errors: TransientError for a full disk; PermanentError for a file that is not what a mark says.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._name = name
        self._file = -1
        self._number = self._newest = 0
        self._size = self._whole_size = 0
        self._old: list[Path] = self._files()

    def _files(self) -> list[Path]:
        found = [path for path in self._folder.glob("*.journal") if self._is_ours(path)]
        self._newest = max((_number_of(path) for path in found), default=0)
        return found

    def _is_ours(self, path: Path) -> bool:
        match = _FILE.fullmatch(path.name)
        return match is not None and match[1] == self._name

    def _path(self, number: int) -> Path:
        return self._folder / f"{self._name}.{number:08d}.journal"

    def read(self, mark: Mark) -> Iterator[bytes]:
        """The whole and the changes up to a mark; from there `save` goes on."""
        path = self._open(mark, os.O_RDWR)
        self._size = mark[2]
        try:
            os.ftruncate(self._file, self._size)
        except OSError as err:
            raise disk_error("journal", path, err) from err
        self._old = [other for other in self._old if other != path]
        for chunk in self._chunks():
            self._whole_size = self._whole_size or len(chunk)
            yield chunk
        os.lseek(self._file, 0, os.SEEK_END)

    def check(self, mark: Mark) -> None:
        """Read up to a mark, and change nothing; raises what `read` would."""
        self._open(mark, os.O_RDONLY)
        self._size = mark[2]
        try:
            for _ in self._chunks():
                pass
        finally:
            self.close()

    def _open(self, mark: Mark, flags: int) -> Path:
        _, self._number, size = mark
        path = self._path(self._number)
        try:
            self._file = os.open(path, flags)
            found = os.fstat(self._file).st_size
        except FileNotFoundError:
            raise self._damaged("no file") from None
        except OSError as err:
            raise disk_error("journal", path, err) from err
        if found < size:
            raise self._damaged("less than was saved")
        return path

    def _chunks(self) -> Iterator[bytes]:
        place = 0
        while place < self._size:
            chunk = self._chunk(place, self._size)
            place += _HEAD.size + len(chunk)
            yield chunk

    def _chunk(self, place: int, end: int) -> bytes:
        if place + _HEAD.size > end:
            raise self._damaged("a chunk that is cut")
        length, check = _HEAD.unpack(self._read_at(place, _HEAD.size))
        place += _HEAD.size
        if place + length > end:
            raise self._damaged("a chunk that is cut")
        chunk = self._read_at(place, length)
        if crc32(chunk) != check:
            raise self._damaged("a chunk that is not what was written")
        return chunk

    def _read_at(self, place: int, size: int) -> bytes:
        parts: list[bytes] = []
        while size > 0:
            parts.append(os.pread(self._file, min(size, _PIECE), place))
            if not parts[-1]:
                raise self._damaged("less than was saved")
            place, size = place + len(parts[-1]), size - len(parts[-1])
        return b"".join(parts)

    def save(self, changed: bytes, whole: Callable[[], bytes], *, anew: bool = False) -> Mark:
        """Make a state durable, by its changes since the last time or as a whole.

        Shapes: empty `changed` for none; `anew` where the file holds what has to be gone.
        """
        self._drop_old()
        outgrown = self._size + len(changed) > 2 * self._whole_size + _FREE_BYTES
        fresh = anew or outgrown or self._file < 0
        if fresh:
            self._begin()
            changed = whole()
            self._whole_size = len(changed)
        if changed:
            self._append(changed)
        return (self._name, self._number, self._size)

    def remove(self) -> None:
        """Remove all files, which no state names any more."""
        self.close()
        self._old = self._files()
        self._drop_old()

    def _drop_old(self) -> None:
        """Remove files that no state names any more: the epoch after their last one is durable."""
        for path in self._old:
            try:
                path.unlink(missing_ok=True)
            except OSError as err:
                raise disk_error("journal", path, err) from err
        self._old = []

    def _begin(self) -> None:
        if self._file >= 0:
            self._old = [self._path(self._number)]
        self.close()
        self._newest += 1
        self._number = self._newest
        self._size = 0
        path = self._path(self._number)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
            sync_path(self._folder)
            sync_path(self._folder.parent)
        except OSError as err:
            raise disk_error("journal", path, err) from err

    def _append(self, chunk: bytes) -> None:
        try:
            for part in (_HEAD.pack(len(chunk), crc32(chunk)), chunk):
                self._write(part)
            os.fsync(self._file)
        except OSError as err:
            raise disk_error("journal", self._path(self._number), err) from err
        self._size += _HEAD.size + len(chunk)

    def _write(self, part: bytes) -> None:
        for start in range(0, len(part), _PIECE):
            piece = memoryview(part)[start : start + _PIECE]
            if os.write(self._file, piece) != len(piece):
                raise OSError(errno.ENOSPC, "")

    def close(self) -> None:
        """Let the file go; its content stays."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _damaged(self, found: str) -> PermanentError:
        return PermanentError(
            do="resume",
            kind="journal",
            name=self._path(self._number).name,
            found=found,
            expected="what the recovery store says that was saved",
            hint="restore the folder recovery as a whole, or start from an empty data folder",
        )


class Journals(NamedTuple):
    """The journals of one flow. They lie beside its recovery stores, whoever has which lane."""

    folder: Path

    def open(self, name: str) -> Journal:
        """One by its name."""
        return Journal(self.folder, name)


def _number_of(path: Path) -> int:
    return int(path.name.split(".")[-2])
