"""Remember in which order a lane gave its messages, so that a repeated epoch decides the same.

After a crash an epoch's messages are read again, but Kafka may hand them out in another order
across partitions, and cut into other blocks; and a table may have grown. What depends on order
(consent at the time, which of two events with one id came first) would then be decided another
way, although half of the outputs of the first time may be committed. So every block is noted
here before it is given to the flow, and after a resume the blocks of the epoch in doubt are
given again as they were.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec
import structlog

from connectors.disk import disk_error
from connectors.kafka.lane_state import Place
from schemas.blocks import RawBlock, runs_of
from schemas.errors import PermanentError

_log = structlog.get_logger(__name__)

VERSION: Final = 1

SIZE_MAX: Final = 524_288
"""Bytes of notes from which they begin anew with the next epoch: to replace a file takes 2 to 12 ms
each time, in which the lane stands, and a start reads so much in 0.05 s."""


class Run(msgspec.Struct, frozen=True, array_like=True):
    """Neighbours in a block that come from one partition: `size` messages, `first` to `last`."""

    partition: int
    first: int
    last: int
    size: int


class Given(msgspec.Struct, frozen=True, array_like=True):
    """One block as it was given, without its messages."""

    topic: str
    received_ms: int
    quiet: tuple[Place, ...]
    unread: bool
    runs: tuple[Run, ...]


class _Beginning(msgspec.Struct, frozen=True, array_like=True):
    """The first line: where the lane stood before the blocks that follow."""

    version: int
    places: tuple[tuple[str, int, int], ...]


def describe_block(block: RawBlock) -> Given:
    """A block's order, boundaries and circumstances."""
    offsets = block.offsets
    runs = tuple(
        Run(partition, offsets[start], offsets[end - 1], end - start)
        for partition, start, end in runs_of(block.partitions)
    )
    return Given(block.topic, block.received_ms, block.quiet, block.unread, runs)


class OrderLog:
    """One lane's notes since its last durable epoch, and of some before it, in a file.

    `pending` are the blocks that have to be given again, oldest first.
    State: `SIZE_MAX` bytes and what one epoch adds; what a crash of the machine may take is what
    was noted since the last `sync`: the source calls it before any sink commits the epoch, and who
    lets rows leave earlier, before that.
    """

    def __init__(self, path: Path, offsets: Mapping[Place, int]) -> None:
        self._path = path
        self._dirty = False
        self._size = 0
        self._file = -1
        path.parent.mkdir(parents=True, exist_ok=True)
        self.pending: deque[Given] = deque(_pending(path, offsets))
        self._write_anew(offsets)

    def note(self, block: RawBlock) -> None:
        """Note a block before it is given."""
        self._append(describe_block(block))

    def _append(self, line: _Beginning | Given) -> None:
        """Write a whole line, or none: half of one would spoil the next."""
        text = msgspec.json.encode(line) + b"\n"
        try:
            end = os.fstat(self._file).st_size
            whole = os.write(self._file, text) == len(text)
            if not whole:
                os.ftruncate(self._file, end)
        except OSError as err:
            raise disk_error("order log", self._path, err) from err
        if not whole:
            raise disk_error("order log", self._path, OSError(errno.ENOSPC, ""))
        self._size = end + len(text)
        self._dirty = True

    def sync(self) -> None:
        """Make the notes durable."""
        if not self._dirty:
            return
        try:
            os.fsync(self._file)
        except OSError as err:
            raise disk_error("order log", self._path, err) from err
        self._dirty = False

    def begin(self, offsets: Mapping[Place, int]) -> None:
        """Everything before these offsets is durable: begin anew, if there is much of that."""
        if self._size > SIZE_MAX:
            self._write_anew(offsets)

    def _write_anew(self, offsets: Mapping[Place, int]) -> None:
        """Replace the file as a whole: what is still pending must not get lost."""
        self.close()
        fresh = self._path.with_suffix(".new")
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_TRUNC
        try:
            self._file = os.open(fresh, flags, 0o644)
        except OSError as err:
            raise disk_error("order log", self._path, err) from err
        self._append(_beginning(offsets))
        for given in self.pending:
            self._append(given)
        if self.pending:
            self.sync()
        fresh.replace(self._path)

    def close(self) -> None:
        """Let the file go; its content stays."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def _beginning(offsets: Mapping[Place, int]) -> _Beginning:
    return _Beginning(VERSION, tuple(sorted((*place, at) for place, at in offsets.items())))


def _pending(path: Path, offsets: Mapping[Place, int]) -> list[Given]:
    """The blocks that were given after these offsets; none when the notes are of another time."""
    beginning, entries = _read(path)
    if beginning is None or beginning.version != VERSION:
        return []
    at = {(topic, number): offset for topic, number, offset in beginning.places}
    for count, given in enumerate(entries):
        if at == offsets:
            return entries[count:]
        at.update(((given.topic, run.partition), run.last + 1) for run in given.runs)
    if entries and at != offsets:
        # A folder that was put together from copies of different times.
        _log.error("order_log_of_another_time", file=path.name, blocks=len(entries))
    return []


def _read(path: Path) -> tuple[_Beginning | None, list[Given]]:
    """The lines that were written whole; a block whose line was not was never given."""
    try:
        lines = path.read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return None, []
    if not lines:
        return None, []
    try:
        beginning = msgspec.json.decode(lines[0], type=_Beginning)
        return beginning, [msgspec.json.decode(line, type=Given) for line in lines[1:]]
    except msgspec.MsgspecError:
        raise PermanentError(
            do="read",
            kind="order log",
            name=path.name,
            found="lines that Airside did not write",
            hint="restore it from a copy; without it a repeated epoch may decide another way, so "
            "remove it only if that is accepted",
        ) from None
