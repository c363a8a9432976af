"""What our own files on disk have in common."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from schemas.errors import TransientError


def disk_error(kind: str, path: Path, err: OSError) -> TransientError:
    """What to tell of a file that could not be written."""
    return TransientError(
        do="write",
        kind=kind,
        name=path.name,
        found=errno.errorcode.get(err.errno or 0, type(err).__name__),
        hint="make room on the disk of AIRSIDE_DATA; nothing is lost: the epoch is repeated at the "
        "next start",
    )


def sync_path(path: Path) -> None:
    """Make a file's content durable, or the names in a folder."""
    place = os.open(path, os.O_RDONLY)
    try:
        os.fsync(place)
    finally:
        os.close(place)
