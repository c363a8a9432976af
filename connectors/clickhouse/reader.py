"""Read from ClickHouse with a bounded retry, and its errors in our words."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import structlog
from clickhouse_connect.driver.client import Client

from connectors.clickhouse.client import WORLD_ERRORS, error_code, is_passing
from schemas.errors import PermanentError, TransientError

_log = structlog.get_logger(__name__)


def read_rows(
    client: Client,
    query: str,
    parameters: Mapping[str, Any],
    *,
    name: str,
    tries: int = 5,
    sleep: Callable[[float], None] = time.sleep,
) -> list[tuple[Any, ...]]:
    """The rows of a query, `name` says what they are in errors.

    Errors: TransientError when ClickHouse stays away, PermanentError when it refuses; with its
    code only, since its texts may quote values.
    """
    attempt = 0
    while True:
        attempt += 1
        try:
            return [tuple(row) for row in client.query(query, dict(parameters)).result_rows]
        except WORLD_ERRORS as err:
            passing = is_passing(err)
            if passing and attempt < tries:
                _log.warning("clickhouse_lost", reading=name, attempt=attempt, tries=tries)
                sleep(min(2.0**attempt / 4, 5.0))
                continue
            family = TransientError if passing else PermanentError
            code = error_code(err)
            raise family(
                do="read",
                kind="tables",
                name=name,
                found=f"ClickHouse error {code}" if code else type(err).__name__,
                hint="check that ClickHouse runs" if passing else "run `airside migrate`",
            ) from None
