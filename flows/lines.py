"""Read the lines of a file, plain or gzip, with a bound, and count those that are of no use."""

from __future__ import annotations

import gzip
import os
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Final, NamedTuple, Self

from rich.console import Console

from schemas.errors import ConfigError, PermanentError

FAULTS_KEPT_MAX: Final = 100
EX_DATAERR: Final = 65
"""The exit status of sysexits(3) for input that was not all as it must be."""

_BOM: Final = b"\xef\xbb\xbf"
_GZIP: Final = b"\x1f\x8b"


class Fault(NamedTuple):
    """A line that could not be used: its number from 1, and why, without quoting it."""

    line: int
    reason: str


class Faults:
    """Counts unusable lines by reason, and keeps the first ones with their numbers."""

    def __init__(self) -> None:
        self.first: list[Fault] = []
        self.by_reason: Counter[str] = Counter()

    def add(self, line: int, reason: str) -> None:
        """Note one line."""
        self.by_reason[reason] += 1
        if len(self.first) < FAULTS_KEPT_MAX:
            self.first.append(Fault(line, reason))

    @property
    def total(self) -> int:
        """How many lines were noted."""
        return self.by_reason.total()

    def show(self, console: Console) -> None:
        """Print the counts, and where the first ones are."""
        for reason, count in self.by_reason.most_common():
            places = [str(fault.line) for fault in self.first if fault.reason == reason][:5]
            more = ", …" if count > len(places) else ""
            shown = f" (line {', '.join(places)}{more})" if places else ""
            console.print(f"  {count} x {reason}{shown}", markup=False)


class LineFile:
    """The lines of a file, plain or gzip, numbered from 1, each with a bound.

    Shapes: items are `(number, bytes)` without the line's end; None for a line above the bound.
    Errors: ConfigError when it cannot be opened; PermanentError for a gzip that breaks off.
    """

    def __init__(self, path: Path, *, line_bytes_max: int) -> None:
        self._path = path
        self._line_bytes_max = line_bytes_max
        try:
            self._raw = path.open("rb")
            self.size = os.fstat(self._raw.fileno()).st_size
            packed = self._raw.read(2) == _GZIP
            self._raw.seek(0)
        except OSError as err:
            raise ConfigError(
                do="read", kind="file", name=str(path), found=err.strerror or "no file"
            ) from None
        self._text: gzip.GzipFile | IO[bytes] = (
            gzip.GzipFile(fileobj=self._raw) if packed else self._raw
        )

    @property
    def position(self) -> int:
        """Bytes of the file that were read so far, as it lies on the disk."""
        return min(self._raw.tell(), self.size)

    def __iter__(self) -> Iterator[tuple[int, bytes | None]]:
        number = 0
        try:
            while line := self._text.readline(self._line_bytes_max + 2):
                number += 1
                yield number, self._bounded(line, first=number == 1)
        except (EOFError, gzip.BadGzipFile, zlib.error, OSError):
            raise PermanentError(
                do="read",
                kind="file",
                name=str(self._path),
                where=f"after line {number}",
                found="a broken gzip stream or disk",
                expected="a whole file",
                hint="fetch it again",
            ) from None

    def _bounded(self, line: bytes, *, first: bool) -> bytes | None:
        if first:
            line = line.removeprefix(_BOM)
        whole = line.endswith(b"\n")
        kept = line.removesuffix(b"\n").removesuffix(b"\r")
        if whole or len(line) <= self._line_bytes_max:
            return kept if len(kept) <= self._line_bytes_max else None
        while line and not line.endswith(b"\n"):
            line = self._text.readline(self._line_bytes_max)
        return None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._text.close()
        self._raw.close()
