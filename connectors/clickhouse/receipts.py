"""Note which saved rows ClickHouse has confirmed since they were saved."""

from __future__ import annotations

import hashlib
from pathlib import Path

import structlog

from connectors.lane_sink import lane_key

_log = structlog.get_logger(__name__)


class Receipts:
    """A file for each lane with the digest of its last saved rows that were confirmed.

    `store` names the database: a receipt of another one is none.
    State: the files. One that is lost, half written or of another moment is no receipt, and costs
    that the rows are written once more; so none has to be durable.
    Errors: none; a file that cannot be written is said in the log.
    """

    def __init__(self, folder: Path, store: str = "") -> None:
        self._folder = folder
        self._store = store.encode()

    def has(self, lane: int, state: bytes) -> bool:
        """Whether exactly these rows were confirmed."""
        try:
            return self._file(lane).read_text() == self._digest(state)
        except (OSError, UnicodeDecodeError):
            return False

    def write(self, lane: int, state: bytes) -> None:
        """Note that these rows are confirmed, and no others."""
        file = self._file(lane)
        fresh = file.with_name(f"{file.name}.new")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            fresh.write_text(self._digest(state))
            fresh.replace(file)
        except OSError as err:
            _log.warning("receipt_not_written", lane=lane, error=err.strerror)

    def _file(self, lane: int) -> Path:
        return self._folder / f"{lane_key(lane)}.confirmed"

    def _digest(self, state: bytes) -> str:
        digest = hashlib.blake2b(state, digest_size=16)
        digest.update(b"\0" + self._store)
        return digest.hexdigest()
