"""Check whether ClickHouse answers, has our tables as this release writes them, and our time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from connectors.clickhouse.client import connect
from connectors.clickhouse.migrations import Migration, read_migrations
from connectors.clickhouse.survey import (
    VERSION_MIN,
    Database,
    column_faults,
    parse_version,
    survey_database,
)
from connectors.clock import Clock
from flows.doctor.finding import Finding, fail, not_checked, of_error, ok, warn
from flows.places import MIGRATIONS
from flows.settings import Settings
from schemas.errors import AirsideError

NAMES: Final = ("clickhouse", "clickhouse_version", "migrations", "columns", "clock")

_SHOWN_MAX: Final = 5
_SKEW_MS_MAX: Final = 1_000.0
"""Hop histories of two machines cannot be put in order when their clocks differ by more."""
_MIGRATE: Final = "run `airside migrate`"


def ask_database(settings: Settings, clock: Clock) -> Database:
    """Ask the ClickHouse of the settings; one try, since a person waits.

    Errors: as `connect` and `survey_database`.
    """
    client = connect(settings.clickhouse_address, tries=1)
    try:
        return survey_database(client, clock)
    finally:
        client.close()


def check_clickhouse(
    settings: Settings, clock: Clock, ask: Callable[[Settings, Clock], Database] = ask_database
) -> list[Finding]:
    """Everything about ClickHouse."""
    try:
        database = ask(settings, clock)
    except AirsideError as err:
        return [of_error("clickhouse", err), *not_checked(NAMES[1:], "ClickHouse is not reached")]
    return [
        ok("clickhouse", f"database {settings.clickhouse.database} answers"),
        check_version(database.version),
        check_migrations(database.migrations, read_migrations(MIGRATIONS)),
        check_columns(database),
        check_clock(database, skew_s_max=settings.time.skew_s_max),
    ]


def check_version(version: str) -> Finding:
    """Check whether the server knows everything that our tables use."""
    expected = f"{VERSION_MIN[0]}.{VERSION_MIN[1]}"
    if parse_version(version) < VERSION_MIN:
        do = f"use ClickHouse {expected} or newer: it is the first with a TTL on Date32"
        return fail("clickhouse_version", f"ClickHouse {version}", do)
    return ok("clickhouse_version", f"ClickHouse {version}, at least {expected}")


def check_migrations(applied: Mapping[int, str] | None, ours: list[Migration]) -> Finding:
    """Check whether exactly our migrations were applied."""
    name = "migrations"
    if not applied:
        return fail(name, "none applied", _MIGRATE)
    edited = [item.name for item in ours if applied.get(item.number, item.sha256) != item.sha256]
    if edited:
        return fail(
            name,
            f"applied with another content: {', '.join(edited)}",
            "restore the files and put the change into a new one",
        )
    missing = [item.name for item in ours if item.number not in applied]
    if missing:
        return fail(name, f"not applied: {', '.join(missing)}", _MIGRATE)
    later = max(applied) - len(ours)
    if later > 0:
        return warn(
            name,
            f"{later} more than this release knows",
            "make sure that a newer release than this one was meant to be replaced",
        )
    return ok(name, f"{len(ours)} applied, as this release has them")


def check_columns(database: Database) -> Finding:
    """Check whether the tables take every column that we write."""
    faults = list(column_faults(database.columns))
    if faults:
        rest = len(faults) - _SHOWN_MAX
        found = "; ".join(faults[:_SHOWN_MAX]) + (f"; and {rest} more" if rest > 0 else "")
        do = f"{_MIGRATE}; if all are applied, a table was altered by hand: alter it back"
        return fail("columns", found, do)
    return ok("columns", "every column that is written is there")


def check_clock(database: Database, *, skew_s_max: float) -> Finding:
    """Check whether the server's clock and ours agree, as far as the round trip lets us see."""
    apart_ms = max(abs(database.ahead_ms) - database.round_trip_ms / 2, 0.0)
    side = "ahead of" if database.ahead_ms > 0 else "behind"
    do = "let both machines follow a time server (chrony, or the host's own)"
    found = f"ClickHouse's clock is {apart_ms / 1_000:,.1f} s {side} ours"
    if apart_ms > skew_s_max * 1_000:
        return fail("clock", found, do)
    if apart_ms > _SKEW_MS_MAX:
        return warn("clock", found, do)
    return ok("clock", f"the same as ClickHouse's, to {_SKEW_MS_MAX / 1_000:.0f} s")
