"""ClickHouse of the embedded stack: the engine in a child process behind its HTTP protocol.

Data stay in the folder over restarts and crashes. No access control: loopback only.
"""

from __future__ import annotations

import sys
from http.client import HTTPConnection, HTTPException
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from connectors.embedded.child import Child, choose_port
from connectors.embedded.folder import FolderLock
from schemas.errors import ConfigError

NAME: Final = "clickhouse"
PACKAGES: Final = ("chdb", "starlette", "uvicorn")
LOG_FILE: Final = "clickhouse.log"
FOLDER: Final = "clickhouse"
SERVER: Final = "connectors.embedded.clickhouse_server"
ROOT: Final = Path(__file__).absolute().parents[2]
OK_STATUS: Final = 200
HEALTH_S_MAX: Final = 2.0
START_S_MAX: Final = 60.0  # a large folder is read at start
STOP_S_MAX: Final = 20.0
LEAVE_S_MAX: Final = 2.0  # a server whose parent was killed a moment ago is on its way out


def require_packages() -> None:
    """Check that the extra is there, without loading it.

    Errors: `ConfigError` when it is not.
    """
    if any(find_spec(package) is None for package in PACKAGES):
        raise ConfigError(
            do="find",
            kind="child process",
            name=NAME,
            found="the extra `local` not installed",
            hint="run pip install 'airside[local]'",
        )


class EmbeddedClickHouse:
    """A ClickHouse HTTP endpoint on loopback, from `start` to `stop`.

    Errors: `ConfigError` when it cannot work here or another process holds the folder,
    `TransientError` when it died or is deaf.
    """

    def __init__(self, port: int = 0, *, data_dir: Path, faults: bool = False) -> None:
        require_packages()
        self._folder = data_dir.absolute() / FOLDER
        self.port = choose_port(port, name=NAME)
        self.dsn = f"http://127.0.0.1:{self.port}"
        options = ["--path", str(self._folder), "--port", str(self.port)]
        self.child = Child(
            name=NAME,
            argv=[sys.executable, "-m", SERVER, *options, *(["--faults"] if faults else [])],
            log_file=data_dir.absolute() / LOG_FILE,
            healthy=self.healthy,
            cwd=ROOT,  # `-m` finds our packages there, installed or not
            start_s_max=START_S_MAX,
            stop_s_max=STOP_S_MAX,
        )

    def healthy(self) -> bool:
        """Say whether it answers `/ping` and runs a statement, within a bounded time."""
        return self._get("/ping") == b"Ok.\n" and self._get("/?query=SELECT%201") == b"1\n"

    def _get(self, path: str) -> bytes:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=HEALTH_S_MAX)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.read() if response.status == OK_STATUS else b""
        except (OSError, HTTPException):
            return b""
        finally:
            connection.close()

    def start(self) -> None:
        """Start it and return when it answers."""
        if not self.child.alive():
            lock = FolderLock(self._folder)  # a clear word now, instead of a dead child later
            lock.take(wait_s_max=LEAVE_S_MAX)
            lock.release()
        self.child.start()

    def stop(self) -> None:
        """Stop it; its data stay. Safe to repeat."""
        self.child.stop()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
