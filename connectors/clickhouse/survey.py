"""Look at a ClickHouse database without changing it: version, clock, migrations, columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC
from typing import Any, Final, NamedTuple

import pyarrow as pa
from clickhouse_connect.driver.client import Client

from connectors.clickhouse.client import WORLD_ERRORS, error_code
from connectors.clickhouse.tables import TABLES
from connectors.clock import Clock
from schemas.errors import TransientError

VERSION_MIN: Final = (25, 7)
"""The first that takes a Date32 column as TTL, which `facts` has. Source: ClickHouse PR 80710."""

_TYPES: Final[Mapping[Any, tuple[str, ...]]] = {
    pa.string(): ("String",),
    pa.timestamp("ms", tz="UTC"): ("DateTime64", "DateTime"),
    pa.date32(): ("Date32",),
    pa.int64(): ("Int64",),
    pa.uint8(): ("UInt8",),
    pa.uint16(): ("UInt16",),
    pa.uint32(): ("UInt32",),
    pa.uint64(): ("UInt64",),
    pa.float64(): ("Float64",),
    pa.bool_(): ("Bool",),
}


class Database(NamedTuple):
    """What a database told.

    Shapes: `migrations` gives the hash of each applied number; None when there is no journal.
    `columns` gives by table and column its ClickHouse type.
    Units: `ahead_ms` is how far the server's clock is ahead of ours, right to half the
    `round_trip_ms`.
    """

    version: str
    ahead_ms: float
    round_trip_ms: float
    migrations: Mapping[int, str] | None
    columns: Mapping[str, Mapping[str, str]]


def survey_database(client: Client, clock: Clock) -> Database:
    """Ask the database of this client.

    Errors: TransientError when it stops answering, or refuses.
    """
    try:
        ahead_ms, round_trip_ms = _compare_clocks(client, clock)
        return Database(
            version=str(client.query("SELECT version()").result_rows[0][0]),
            ahead_ms=ahead_ms,
            round_trip_ms=round_trip_ms,
            migrations=_read_journal(client),
            columns=_read_columns(client),
        )
    except WORLD_ERRORS as err:
        code = error_code(err)
        raise TransientError(
            do="ask",
            kind="ClickHouse",
            found=f"ClickHouse error {code}" if code else type(err).__name__,
            hint="see ClickHouse's log; the user needs to read `system.columns`",
        ) from None


def _compare_clocks(client: Client, clock: Clock) -> tuple[float, float]:
    best = (0.0, float("inf"))
    for _ in range(3):  # the quickest answer tells best
        began_ms = clock.now_ms()
        server = client.query("SELECT now64(3, 'UTC')").result_rows[0][0]
        ended_ms = clock.now_ms()
        server_ms = server.replace(tzinfo=UTC).timestamp() * 1_000
        if ended_ms - began_ms < best[1]:
            best = (server_ms - (began_ms + ended_ms) / 2, ended_ms - began_ms)
    return best


def _read_journal(client: Client) -> dict[int, str] | None:
    there = client.query(
        "SELECT count() FROM system.tables WHERE database = currentDatabase()"
        " AND name = 'migrations'"
    )
    if not there.result_rows[0][0]:
        return None
    rows = client.query("SELECT number, sha256 FROM migrations FINAL").result_rows
    return {int(number): str(digest) for number, digest in rows}


def _read_columns(client: Client) -> dict[str, dict[str, str]]:
    rows = client.query(
        "SELECT table, name, type FROM system.columns WHERE database = currentDatabase()"
    ).result_rows
    found: dict[str, dict[str, str]] = {}
    for table, name, kind in rows:
        found.setdefault(str(table), {})[str(name)] = str(kind)
    return found


def column_faults(columns: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    """Say where the tables of the database do not take what we write."""
    for table, wanted in TABLES.items():
        there = columns.get(table)
        if there is None:
            yield f"no table {table}"
            continue
        for field in wanted.schema:
            kind = there.get(field.name)
            if kind is None:
                yield f"no column {table}.{field.name}"
            elif not _takes(field.type, kind):
                yield f"{table}.{field.name} is {kind}"


def _takes(arrow: Any, kind: str) -> bool:
    """Tell whether a column of this ClickHouse type takes this Arrow type."""
    kind = kind.removeprefix("LowCardinality(").removeprefix("Nullable(")
    if pa.types.is_list(arrow):
        return kind.startswith("Array(") and _takes(arrow.value_type, kind.removeprefix("Array("))
    if pa.types.is_struct(arrow):
        return kind.startswith("Tuple(")
    if pa.types.is_fixed_size_binary(arrow):
        return kind.startswith(f"FixedString({arrow.byte_width})")
    return kind.partition("(")[0].rstrip(")") in _TYPES[arrow]


def parse_version(text: str) -> tuple[int, int]:
    """Read year and month of a ClickHouse version.

    >>> parse_version("26.9.1.1")
    (26, 9)
    """
    year, _, rest = text.partition(".")
    month = rest.partition(".")[0]
    return (int(year), int(month)) if year.isdigit() and month.isdigit() else (0, 0)
