"""ClickHouse over HTTP on the engine in this process.

Run as `python -m connectors.embedded.clickhouse_server --path FOLDER --port PORT`.

Loopback only, and no access control: whoever can open the port can read and write everything,
files of this user included.
Errors: one line on standard error and exit code 78 when it cannot start.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import uvicorn

from connectors.embedded.endpoint import Limits, StatementEndpoint, create_app
from connectors.embedded.engine import Engine
from connectors.embedded.fault import FaultSwitch
from connectors.embedded.folder import FolderLock
from connectors.embedded.guard import is_loopback
from schemas.errors import ConfigError

ADDRESS_BYTES_MAX: Final = 1 << 20  # as a ClickHouse server: statements travel in addresses
CONNECTIONS_MAX: Final = 512
DRAIN_S_MAX: Final = 5
MEGABYTE: Final = 1 << 20


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    standard = Limits()
    parser = argparse.ArgumentParser(prog="connectors.embedded.clickhouse_server")
    parser.add_argument("--path", type=Path, required=True, help="data folder")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--host", default="127.0.0.1", help="a loopback address")
    parser.add_argument("--slots", type=int, default=standard.slots, help="statements at a time")
    for name, size in (
        ("body", standard.body_bytes_max),
        ("result", standard.result_bytes_max),
        ("query", standard.query_bytes_max),
    ):
        parser.add_argument(f"--{name}-mb-max", type=int, default=size // MEGABYTE)
    parser.add_argument("--faults", action="store_true", help="serve POST /fault, for chaos tests")
    return parser.parse_args(argv)


def _listen(host: str, port: int) -> socket.socket:
    if not is_loopback(host):
        raise ConfigError(
            do="listen",
            kind="address",
            name=host,
            found="an address that others can reach",
            expected="a loopback address such as 127.0.0.1",
            hint="use a ClickHouse server to serve others",
        )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The event loop switches Nagle's delay off only for sockets that name TCP: 2 ms, not 45.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise ConfigError(
            do="listen",
            kind="address",
            name=f"{host}:{port}",
            found=error.strerror or "an error",
            expected="a free port",
            hint="name another port",
        ) from None
    return listener


def _serve(options: argparse.Namespace, listener: socket.socket) -> None:
    limits = Limits(
        slots=options.slots,
        body_bytes_max=options.body_mb_max * MEGABYTE,
        result_bytes_max=options.result_mb_max * MEGABYTE,
        query_bytes_max=options.query_mb_max * MEGABYTE,
    )
    engine = Engine(
        options.path,
        query_bytes_max=limits.query_bytes_max,
        result_bytes_max=limits.result_bytes_max,
    )
    switch = FaultSwitch()
    statements = StatementEndpoint(engine, limits, switch)
    config = uvicorn.Config(
        create_app(statements, switch, with_faults=options.faults),
        log_level="warning",
        access_log=False,
        lifespan="off",
        ws="none",
        proxy_headers=False,
        server_header=False,
        h11_max_incomplete_event_size=ADDRESS_BYTES_MAX,
        limit_concurrency=CONNECTIONS_MAX,
        timeout_graceful_shutdown=DRAIN_S_MAX,
    )
    # The server raises the signal again when it is done: here that must not end us early.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    uvicorn.Server(config).run(sockets=[listener])
    statements.close()
    deadline = time.monotonic() + DRAIN_S_MAX
    while statements.busy and time.monotonic() < deadline:
        time.sleep(0.01)
    if statements.busy:  # a statement cannot be called back; what is on disk stays right
        sys.stderr.write(f"stopped with {statements.busy} statements running\n")
        sys.stderr.flush()
        os._exit(0)
    engine.close()


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM; hand back the exit code."""
    options = _arguments(argv)
    os.putenv("TZ", "UTC")  # for the engine's C code, before it is loaded: tables hold UTC
    try:
        with _listen(options.host, options.port) as listener, FolderLock(options.path):
            _serve(options, listener)
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
