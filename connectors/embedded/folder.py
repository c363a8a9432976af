"""A data folder belongs to one process at a time."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from schemas.errors import ConfigError

LOCK_FILE: Final = "airside.lock"
PAUSE_S: Final = 0.05


class FolderLock:
    """Hold a folder for this process; the system lets it go when the process ends in any way.

    Errors: `ConfigError` when another process holds it, or it cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: int | None = None

    def take(self, *, wait_s_max: float = 0.0) -> None:
        """Make the folder where needed and hold it, after a bounded wait for one who is leaving."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            file = os.open(self._folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise self._unusable(error.strerror or "no access") from None
        deadline = time.monotonic() + wait_s_max
        while not _locked(file):
            if time.monotonic() >= deadline:
                os.close(file)
                raise self._unusable("it in use by another process")
            time.sleep(PAUSE_S)
        self._file = file

    def _unusable(self, found: str) -> ConfigError:
        return ConfigError(
            do="open",
            kind="data folder",
            name=self._folder.name,
            found=found,
            expected="a folder that only this process uses",
            hint="stop the other process or name another folder",
        )

    def release(self) -> None:
        """Let it go. Safe to repeat."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def __enter__(self) -> Self:
        self.take()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


def _locked(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
