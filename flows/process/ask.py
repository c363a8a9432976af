"""The command that mines journeys: from options to a question, from its answer to the printer."""

from __future__ import annotations

import sys
from argparse import Namespace
from typing import Any, Final

from clickhouse_connect.driver.client import Client
from rich.console import Console
from rich.table import Table

from connectors.clickhouse.client import connect
from connectors.clickhouse.reader import read_rows
from connectors.clock import Clock, SystemClock
from flows.ingest import read_policy
from flows.process.queries import ROWS_MAX, VIEWS, Scope, View, parameters_of
from flows.query.ask import least_people, moment
from flows.query.compile import Query
from flows.query.show import as_csv, as_json
from flows.settings import Settings, read_settings
from schemas.errors import ConfigError
from schemas.policy import Policy
from schemas.process import Process, load_process

_console = Console(highlight=False, soft_wrap=True)
_EMPTY: Final = "no lines: nothing happened then, or the groups are too small to be shown"
_SHARES: Final = frozenset(("share", "exception_rate", "automatable"))


def process(options: Namespace) -> int:
    """Print one view of the process."""
    settings = read_settings()
    view = VIEWS[options.view]
    scope = make_scope(options, settings, read_policy(settings), SystemClock())
    lines = answer(
        connect(settings.clickhouse_address), view, load_process(settings.process), scope
    )
    asked = Query(view.sql, {}, (), view.columns)
    if options.format == "csv":
        sys.stdout.write(as_csv(asked, lines))
    elif options.format == "json":
        sys.stdout.buffer.write(as_json(asked, lines))
    else:
        _console.print(as_table(view, lines) if lines else _EMPTY)
    return 0


def answer(client: Client, view: View, process: Process, scope: Scope) -> list[tuple[Any, ...]]:
    """The lines of a view.

    Errors: ConfigError for single journeys where lines must be about several people; else as
    `connectors.clickhouse.reader.read_rows`.
    """
    if view.single and scope.k:
        raise ConfigError(
            do="query",
            kind="view of",
            name="single journeys",
            found="a role that may not see small groups",
            expected="a role that may, or none",
        )
    parameters = parameters_of(process, scope)
    # What a question does not name is left out: it would travel with it for nothing.
    used = {name: value for name, value in parameters.items() if "{" + name + ":" in view.sql}
    return read_rows(client, view.sql, used, name="process")


def make_scope(options: Namespace, settings: Settings, policy: Policy, clock: Clock) -> Scope:
    """What the options ask for.

    Errors: ConfigError for a time, a role or a number of lines that is none.
    """
    now_ms = clock.now_ms()
    if not 1 <= options.limit <= ROWS_MAX:
        raise ConfigError(
            do="use",
            kind="option",
            name="--limit",
            found=str(options.limit),
            expected=f"1 to {ROWS_MAX}",
        )
    return Scope(
        since_s=moment(options.since, now_ms // 1_000),
        until_s=moment(options.until, now_ms // 1_000),
        now_ms=now_ms,
        timeout_ms=int(settings.journey.timeout_s * 1_000),
        campaign=options.campaign,
        k=least_people(options.role, policy),
        rows_max=options.limit,
    )


def as_table(view: View, lines: list[tuple[Any, ...]]) -> Table:
    """A table for people: shares in percent, an empty act at either end of a journey."""
    table = Table(box=None)
    for place, name in enumerate(view.columns):
        number = any(isinstance(line[place], int | float) for line in lines)
        table.add_column(name, justify="right" if number else "left")
    for line in lines:
        table.add_row(*map(_shown, view.columns, line))
    return table


def _shown(name: str, value: Any) -> str:
    if name in ("source", "target") and not value:
        return "(start)" if name == "source" else "(end)"
    if value is None or value == "":
        return "-"
    if name in _SHARES:
        return f"{100 * value:.1f} %"
    if isinstance(value, float):
        return f"{value:,.2f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
