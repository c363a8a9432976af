"""Check whether this machine has room, and a disk that keeps what it is given."""

from __future__ import annotations

import resource
import shutil
import tempfile
from pathlib import Path
from typing import Final

from flows.doctor.finding import Finding, fail, not_checked, ok, warn
from flows.settings import Settings

NAMES: Final = ("data_folder", "file_system", "disk_free", "file_descriptors")

MOUNTS: Final = Path("/proc/mounts")
_MIB: Final = 1 << 20
RESERVE_BYTES: Final = 256 * _MIB
"""Below this the write-ahead log of one large epoch may not fit any more."""
COPIES: Final = 3
"""A store briefly holds each snapshot three times: the old one, the new one, and in the log."""
ROOM_BYTES: Final = 1 << 30
"""Room for state to grow in."""

# Counted in a running worker: 104 files with 4 lanes, exactly_once and 1 broker. A client has a
# few pipes of its own, and for each broker a connection and a pipe.
_FILES_BASE: Final = 128
_FILES_PER_CLIENT: Final = 8
_FILES_PER_BROKER: Final = 3
_CLIENTS_PER_LANE: Final = 3
_BROKERS_MIN: Final = 3
_REMOTE: Final = frozenset(
    ("9p", "afs", "beegfs", "ceph", "cifs", "fuse.glusterfs", "fuse.sshfs", "gfs2", "gpfs")
) | frozenset(("lustre", "nfs", "nfs4", "ocfs2", "smb3", "smbfs", "virtiofs"))
_FLEETING: Final = frozenset(("ramfs", "tmpfs"))


def check_machine(
    settings: Settings, *, mounts: Path = MOUNTS, brokers: int = _BROKERS_MIN
) -> list[Finding]:
    """The data folder, its disk, and how many files this process may open."""
    folder = settings.data.absolute()
    return [
        check_folder(folder),
        check_file_system(folder, mounts),
        check_disk(shutil.disk_usage(nearest(folder)).free, store_bytes=size_of(folder)),
        check_descriptors(
            resource.getrlimit(resource.RLIMIT_NOFILE)[0], lanes=settings.lanes, brokers=brokers
        ),
    ]


def nearest(folder: Path) -> Path:
    """The folder, or the first one above it that is there."""
    return next(path for path in (folder, *folder.parents) if path.exists())


def size_of(folder: Path) -> int:
    """How much the recovery stores in a data folder hold now. Units: bytes."""
    return sum(path.stat().st_size for path in folder.glob("recovery/**/part-*") if path.is_file())


def check_folder(folder: Path) -> Finding:
    """Check whether we may write there, with a file that is never seen."""
    there = nearest(folder)
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(b"x")
    except OSError as err:
        return fail(
            "data_folder",
            f"cannot write in {there}: {err.strerror or type(err).__name__}",
            "let this user write there, or set AIRSIDE_DATA to a folder where it may",
        )
    if there != folder:
        return ok("data_folder", f"{folder} is not there yet; it can be made")
    return ok("data_folder", f"{folder} can be written")


def check_file_system(folder: Path, mounts: Path) -> Finding:
    """Check whether it is local: SQLite's log needs shared memory, and our locks need flock."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return not_checked(["file_system"], "this system does not list its mounts")[0]
    there = nearest(folder).resolve()
    point, kind = Path("/"), "unknown"
    for line in lines:
        fields = line.split(" ")
        if len(fields) < 3:  # noqa: PLR2004 - device, mount point, type; see fstab(5)
            continue
        place = Path(fields[1].replace("\\040", " "))
        # The last one wins among equals: it is mounted over the others.
        if there.is_relative_to(place) and len(place.parts) >= len(point.parts):
            point, kind = place, fields[2]
    if kind in _REMOTE:
        return warn(
            "file_system",
            f"{kind}, which is not of this machine",
            "set AIRSIDE_DATA to a local disk: locks and SQLite's log may fail on this one",
        )
    if kind in _FLEETING:
        return warn(
            "file_system",
            f"{kind}, which is lost when the machine stops",
            "set AIRSIDE_DATA to a disk that stays, unless this is a trial",
        )
    return ok("file_system", f"{kind}, mounted at {point}")


def check_disk(free_bytes: int, *, store_bytes: int) -> Finding:
    """Check whether there is room for the next epochs."""
    found = f"{free_bytes / _MIB:,.0f} MiB free, recovery stores take {store_bytes / _MIB:,.0f} MiB"
    do = "free some space, or move AIRSIDE_DATA, whole and while nothing runs"
    if free_bytes < store_bytes + RESERVE_BYTES:
        return fail("disk_free", found, do)
    if free_bytes < COPIES * store_bytes + ROOM_BYTES:
        return warn("disk_free", found, do)
    return ok("disk_free", found)


def check_descriptors(limit: int, *, lanes: int, brokers: int) -> Finding:
    """Check whether a process may open as many files and connections as its lanes need."""
    client = _FILES_PER_CLIENT + _FILES_PER_BROKER * brokers
    need = _FILES_BASE + lanes * _CLIENTS_PER_LANE * client
    found = f"up to {limit:,} open files; {lanes} lanes may need {need:,}"
    if 0 <= limit < need:
        return warn("file_descriptors", found, f"raise the limit: `ulimit -n {2 * need}`")
    return ok("file_descriptors", "no limit on open files" if limit < 0 else found)
