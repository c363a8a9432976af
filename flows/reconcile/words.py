"""Tell a report: tables for people, one JSON object for programs; never a message's value."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

import msgspec
import orjson
from rich.console import Group
from rich.table import Table
from rich.text import Text

from flows.reconcile.findings import Report

ROWS_MAX: Final = 50
"""Differences that a table shows; `--json` lists more."""


def to_json(report: Report) -> str:
    """One line of JSON. Units: seconds since 1970 in the fields that end in `_s`."""
    built: dict[str, Any] = msgspec.to_builtins(report)
    for scope in report.scopes:
        built[scope.name]["remaining"] = scope.remaining
    built["is_well"] = report.is_well
    return orjson.dumps(built).decode()


def to_tables(report: Report) -> Group:
    """The counts, then each kind of difference, then a word on what follows."""
    parts: list[Any] = [_counts(report)]
    if report.cell_findings:
        parts += [Text("\nRollup cells that differ"), _cells(report)]
    if report.hour_findings:
        parts += [Text("\nClosed hours of rollup_1m that differ"), _hours(report)]
    if report.book_findings:
        parts += [Text("\nLines of the books that differ"), _books(report)]
    if report.journey_findings:
        parts += [Text("\nJourneys and outcomes that differ"), _journeys(report)]
    return Group(*parts, *(Text(line) for line in _closing(report)))


def _counts(report: Report) -> Table:
    table = Table("", "compared", "differ", "repaired", "open", "explained", "left", box=None)
    for scope in report.scopes:
        counts = (scope.compared, scope.differing, scope.repaired, scope.open)
        more = (scope.explained, scope.remaining)
        table.add_row(scope.name, *(f"{count:,}" for count in (*counts, *more)))
    return table


def _cells(report: Report) -> Table:
    table = Table("minute (UTC)", "lane", "event type", "class", "differs", box=None)
    for name in ("facts", "rollup", "state"):
        table.add_column(name)
    for cell in report.cell_findings[:ROWS_MAX]:
        table.add_row(
            _time(cell.minute_s),
            str(cell.lane),
            cell.event_type,
            cell.classes,
            cell.what,
            str(cell.facts_n),
            str(cell.rollup_n),
            cell.state.value,
        )
    return table


def _hours(report: Report) -> Table:
    table = Table("hour (UTC)", "facts", "rollup", "amounts", box=None)
    for hour in report.hour_findings[:ROWS_MAX]:
        amounts = "differ" if hour.amount_differs else "equal"
        table.add_row(_time(hour.hour_s), str(hour.facts_n), str(hour.rollup_n), amounts)
    return table


def _books(report: Report) -> Table:
    table = Table("topic", "partition", "run", "door", "code", "booked", "rows", "state", box=None)
    for line in report.book_findings[:ROWS_MAX]:
        table.add_row(
            line.topic,
            str(line.part),
            str(line.run),
            line.door,
            line.code,
            str(line.booked),
            str(line.held),
            line.state.value,
        )
    return table


def _journeys(report: Report) -> Table:
    table = Table("cityHash64(journey)", "table", "differs", "facts", "row", "state", box=None)
    for one in report.journey_findings[:ROWS_MAX]:
        counts = (str(one.facts_n), str(one.row_n))
        table.add_row(str(one.key), one.table, one.what, *counts, one.state.value)
    return table


def _closing(report: Report) -> list[str]:
    lines: list[str] = []
    listed = (
        report.cell_findings,
        report.hour_findings,
        report.book_findings,
        report.journey_findings,
    )
    hidden = sum(scope.differing for scope in report.scopes)
    hidden -= sum(min(len(findings), ROWS_MAX) for findings in listed)
    if hidden:
        lines.append(f"\n{hidden:,} more differences are not shown")
    if not report.complete:
        lines.append("\nnot everything was compared: run it again")
    since = _time(report.since_s)
    verdict = "all is well" if report.is_well else "differences are left"
    lines.append(f"\ncompared what was recorded since {since} UTC: {verdict}")
    return lines


def _time(at_s: int) -> str:
    return f"{datetime.fromtimestamp(at_s, UTC):%Y-%m-%d %H:%M}"
