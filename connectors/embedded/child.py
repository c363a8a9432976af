"""A supervised child process: started, asked whether it is healthy, stopped, never orphaned."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from connectors.embedded import leash
from schemas.errors import AirsideError, ConfigError, TransientError

# Below the range from which systems draw ports for outgoing connections: a client that polls a
# port of that range before the server listens can connect to itself and so take the port away.
PORT_MIN: Final = 15_000
PORT_MAX: Final = 32_000
PORT_TRIES: Final = 256
HEALTH_PAUSE_S: Final = 0.02
KILL_MARGIN_S: Final = 2.0


def port_is_free(port: int) -> bool:
    """Say whether a server could listen on this loopback port now; another may still be faster."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """Find a loopback port on which nobody listens.

    Errors: `TransientError` when a bounded number of draws found none.
    """
    for _ in range(PORT_TRIES):
        port = PORT_MIN + secrets.randbelow(PORT_MAX - PORT_MIN)
        if port_is_free(port):
            return port
    raise TransientError(
        do="find",
        kind="free port",
        where=f"between {PORT_MIN} and {PORT_MAX}",
        found=f"{PORT_TRIES} draws in use",
        hint="name one that is free",
    )


def choose_port(port: int, *, name: str) -> int:
    """Take the given port, or a free one for 0.

    Errors: `ConfigError` when the given one is in use.
    """
    if port == 0:
        return free_port()
    if port_is_free(port):
        return port
    raise ConfigError(
        do="start",
        kind="child process",
        name=name,
        where=f"on port {port}",
        found="the port in use",
        expected="a free one",
        hint="name another port, or 0 for any",
    )


class Child:
    """One program in its own session, with its output in a log file and a leash to our process.

    It ends when `stop` is called, when we end in any way, and when it ends by itself. Its log
    keeps this run; the run before is kept under the same name plus `.old`.
    Errors: `start` and `check` raise `TransientError` with name, exit code and log file when it
    died or never became healthy, `ConfigError` when it says by exit code that it cannot work.
    """

    def __init__(
        self,
        *,
        name: str,
        argv: Sequence[str],
        log_file: Path,
        healthy: Callable[[], bool],
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        start_s_max: float = 30.0,
        stop_s_max: float = 10.0,
    ) -> None:
        self.name = name
        self.log_file = log_file
        self._argv = list(argv)
        self._healthy = healthy
        self._env = env
        self._cwd = cwd
        self._start_s_max = start_s_max
        self._stop_s_max = stop_s_max
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and return when it is healthy; on failure nothing is left running."""
        if self.alive():
            return
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        if self.log_file.exists():
            self.log_file.replace(self.log_file.with_name(self.log_file.name + ".old"))
        leashed = [sys.executable, "-I", "-S", leash.__file__, str(self._stop_s_max), *self._argv]
        with self.log_file.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own argv, no shell
                leashed,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._env,
                cwd=self._cwd,
                start_new_session=True,
            )
        try:
            self._wait_until_healthy()
        except BaseException:
            self.stop()
            raise

    def _wait_until_healthy(self) -> None:
        deadline = time.monotonic() + self._start_s_max
        while True:
            self.check()
            if self._healthy():
                return
            if time.monotonic() >= deadline:
                raise self._failure(TransientError, f"no answer in {self._start_s_max:g} s")
            time.sleep(HEALTH_PAUSE_S)

    def alive(self) -> bool:
        """Say whether the process runs; it may still be deaf."""
        return self._process is not None and self._process.poll() is None

    def check(self) -> None:
        """Raise when the process has died."""
        if self.alive():
            return
        code = None if self._process is None else self._process.returncode
        if code is None:
            raise self._failure(TransientError, "not started")
        lasting = code in (ConfigError.exit_code, leash.NOT_EXECUTABLE, leash.NO_SUCH_PROGRAM)
        raise self._failure(ConfigError if lasting else TransientError, f"exit code {code}")

    def _failure(self, family: type[AirsideError], found: str) -> AirsideError:
        return family(
            do="run",
            kind="child process",
            name=self.name,
            found=found,
            expected="a healthy process",
            hint=f'read its log "{self.log_file.name}" in the data folder',
        )

    @property
    def pid(self) -> int | None:
        """The leash's process id, which is also the id of the group that holds the program."""
        return None if self._process is None else self._process.pid

    def stop(self) -> None:
        """Ask it to end, wait a bounded time, then kill it. Safe to repeat."""
        process = self._process
        if process is None:
            return
        process.terminate()
        try:
            process.wait(self._stop_s_max + KILL_MARGIN_S)
        except subprocess.TimeoutExpired:
            self.kill()
        self._let_go(process)

    def kill(self) -> None:
        """End it as a crash would, without a chance to clean up (SIGKILL to the whole group)."""
        process = self._process
        if process is None:
            return
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        self._let_go(process)

    @staticmethod
    def _let_go(process: subprocess.Popen[bytes]) -> None:
        if process.stdin is not None:
            process.stdin.close()

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
