"""The command `airside dashboard`: serve the pages until it is told to stop."""

from __future__ import annotations

import argparse
import contextlib
import socket
from argparse import Namespace
from typing import Final

from clickhouse_connect.driver.exceptions import ClickHouseError

from connectors.clickhouse.client import connect
from connectors.clock import SystemClock
from flows.settings import read_settings
from schemas.errors import ConfigError

PORT: Final = 8090
_QUERY_S_MAX: Final = 20
_DRAIN_S_MAX: Final = 5
_CONNECTIONS_MAX: Final = 64


def add_dashboard_command(some: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `dashboard`."""
    parser = some.add_parser("dashboard", help="show the figures in a browser on this machine")
    parser.add_argument(
        "--port", type=int, default=PORT, help=f"0 takes a free one (default {PORT})"
    )
    parser.add_argument("--role", default="", help="hide lines about fewer people than it may see")
    parser.set_defaults(act=dashboard)


def dashboard(options: Namespace) -> int:
    """Serve until SIGTERM or SIGINT."""
    # Other commands start quicker without, and need not have the extra `dashboard`.
    try:
        import uvicorn  # noqa: PLC0415

        from flows.dashboard.answer import Asker  # noqa: PLC0415
        from flows.dashboard.serve import make_app  # noqa: PLC0415
    except ModuleNotFoundError as absent:
        raise ConfigError(
            do="start",
            kind="dashboard",
            found=f"no package {absent.name}",
            hint="install the extra `dashboard`",
        ) from None
    from flows.commands import say  # noqa: PLC0415
    from flows.ingest import read_policy  # noqa: PLC0415
    from flows.query.ask import least_people  # noqa: PLC0415
    from schemas.dashboard import load_dashboard  # noqa: PLC0415

    settings = read_settings({"kafka": {"bootstrap_servers": "-"}})  # it is never asked
    k = least_people(options.role, read_policy(settings))
    client = connect(settings.clickhouse_address)
    with contextlib.suppress(ClickHouseError):  # a user who may set nothing has a limit of its own
        client.set_client_setting("max_execution_time", _QUERY_S_MAX)
    app = make_app(Asker(client, settings), load_dashboard(), SystemClock(), role=options.role, k=k)
    with _listen(options.port) as listener:
        port = listener.getsockname()[1]
        say(f"http://127.0.0.1:{port} for this machine only, without log-in; stop with Ctrl-C")
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            lifespan="off",
            ws="none",
            proxy_headers=False,
            server_header=False,
            limit_concurrency=_CONNECTIONS_MAX,
            timeout_graceful_shutdown=_DRAIN_S_MAX,
        )
        uvicorn.Server(config).run(sockets=[listener])
    client.close()
    return 0


def _listen(port: int) -> socket.socket:
    # The event loop switches Nagle's delay off only for sockets that name TCP.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
        listener.listen()  # who reads the address may ask at once
    except (OSError, OverflowError):
        listener.close()
        raise ConfigError(
            do="listen",
            kind="port",
            name=str(port),
            found="one that is taken, or none",
            expected="a free port",
            hint="name another one with --port, or 0 for any",
        ) from None
    return listener
