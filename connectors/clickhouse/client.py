"""ClickHouse over HTTP: connect with a bound, translate the driver's errors."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Final, NamedTuple
from urllib.parse import urlsplit

import clickhouse_connect
import structlog
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError
from urllib3.exceptions import HTTPError

from schemas.errors import AirsideError, ConfigError, PermanentError, TransientError

_log = structlog.get_logger(__name__)

WORLD_ERRORS: Final = (ClickHouseError, HTTPError, OSError)
"""What the driver raises when the world, not our code, is at fault."""

# Codes after which the same request may succeed: timeouts, too many queries or parts, memory,
# network, read-only, shutting down. Source: ClickHouse's ErrorCodes.cpp.
_PASSING: Final = frozenset(
    (3, 159, 160, 164, 202, 209, 210, 225, 241, 242, 252, 279, 285, 319, 364, 425, 439, 999)
)
_CODE: Final = re.compile(r"(?:code:? ?|Code: )(\d{1,4})", re.IGNORECASE)
_UNKNOWN_DATABASE: Final = 81


class ClickHouseAddress(NamedTuple):
    """Where ClickHouse is. `url` is `http://host:port`; the password is kept out of messages."""

    url: str
    database: str
    user: str = "default"
    password: str = ""


def error_code(err: BaseException) -> int | None:
    """The ClickHouse error code in a driver error; None when the server did not answer.

    >>> error_code(RuntimeError("HTTP 500, server code 252: too many parts"))
    252
    """
    code = getattr(err, "code", None)
    if isinstance(code, int):
        return code
    match = _CODE.search(str(err))
    return int(match[1]) if match else None


def is_passing(err: BaseException) -> bool:
    """Tell whether trying again may help: no answer at all, or a code that passes."""
    code = error_code(err)
    return code is None or code in _PASSING


def connect(
    address: ClickHouseAddress,
    *,
    tries: int = 5,
    create_database: bool = False,
    sleep: Callable[[float], None] = time.sleep,
) -> Client:
    """Open a client, a bounded number of times.

    Errors: ConfigError for a wrong address, database or password; TransientError that says what
    was tried when nothing answers.
    """
    parts = urlsplit(address.url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(
            do="use",
            kind="ClickHouse address",
            name=address.url,
            expected="http://host:port",
            hint="set AIRSIDE_CLICKHOUSE__URL",
        )
    found = "no answer"
    for attempt in range(1, tries + 1):
        try:
            client = _open(address, "" if create_database else address.database)
            if create_database:
                client.command(
                    f"CREATE DATABASE IF NOT EXISTS {quote(address.database)} ENGINE = Atomic"
                )
                client.close()
                return _open(address, address.database)
        except WORLD_ERRORS as err:
            if not is_passing(err):
                raise _refused(address, error_code(err)) from None
            found = type(err).__name__
        else:
            return client
        if attempt < tries:
            _log.warning("clickhouse_not_reached", attempt=attempt, tries=tries)
            sleep(min(2.0**attempt / 4, 5.0))
    raise TransientError(
        do="reach",
        kind="ClickHouse",
        name=address.url,
        found=f"{found} in {tries} tries",
        hint="check the address (AIRSIDE_CLICKHOUSE__URL) and that it runs; "
        "`airside up` starts one here",
    )


def _open(address: ClickHouseAddress, database: str) -> Client:
    return clickhouse_connect.get_client(
        dsn=address.url,
        username=address.user,
        password=address.password,
        database=database or "default",
        connect_timeout=5,
        send_receive_timeout=60,
        autogenerate_session_id=False,
        client_name="airside",
        settings={"max_partitions_per_insert_block": 0, "async_insert": 0},
    )


def _refused(address: ClickHouseAddress, code: int | None) -> AirsideError:
    hint = "check AIRSIDE_CLICKHOUSE__USER and AIRSIDE_CLICKHOUSE__PASSWORD"
    if code == _UNKNOWN_DATABASE:
        hint = "create it with `airside migrate`"
    return ConfigError(
        do="open",
        kind="database",
        name=address.database,
        where=f"at {address.url}",
        found=f"ClickHouse error {code}",
        hint=hint,
    )


def write_error(table: str, err: BaseException, *, gave_up: bool) -> AirsideError:
    """An insert's failure in our words: the code only, since texts may quote values."""
    family = TransientError if gave_up else PermanentError
    return family(
        do="write",
        kind="table",
        name=table,
        found=f"ClickHouse error {error_code(err)}" if error_code(err) else type(err).__name__,
        hint="nothing is lost: the epoch is repeated at the next start; "
        + ("check that ClickHouse runs" if gave_up else "run `airside migrate`"),
    )


def quote(name: str) -> str:
    """Quote an identifier for SQL.

    >>> quote("facts")
    '`facts`'
    """
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"
