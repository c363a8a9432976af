"""The command `airside increment`: what notifications earned that would not have come anyway."""

from __future__ import annotations

import csv
import io
import math
import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson
from clickhouse_connect.driver.client import Client
from rich.console import Console
from rich.table import Table

from connectors.clickhouse.client import connect
from connectors.clickhouse.reader import read_rows
from connectors.clock import SystemClock
from flows.ingest import read_policy
from flows.journey.increment import PEOPLE_SQL, PER, Increment, increments
from flows.model.evidence.compare import Plan
from flows.query.ask import least_people, moment
from flows.query.show import UNKNOWN, plain
from flows.settings import Settings, read_settings

_console = Console(highlight=False, soft_wrap=True)
_TOO_FEW: Final = "no lines: one of the groups is too small to be shown"
_FIELDS: Final = Increment._fields


def increment(options: Namespace) -> int:
    """Print conversions and revenue per 1,000 notifications against the holdout."""
    settings, now_s = read_settings(), SystemClock().now_ms() // 1_000
    found = find_increments(
        connect(settings.clickhouse_address),
        settings,
        campaign=options.campaign,
        since_s=moment(options.since, now_s),
        until_s=moment(options.until, now_s),
        currency=options.currency or settings.money.currency,
        k=least_people(options.role, read_policy(settings)),
    )
    if options.format == "csv":
        sys.stdout.write(as_csv(found))
    elif options.format == "json":
        sys.stdout.buffer.write(as_json(found))
    else:
        _console.print(as_table(found) if found else _TOO_FEW)
    return 0


def find_increments(
    client: Client,
    settings: Settings,
    *,
    campaign: str,
    since_s: int,
    until_s: int,
    currency: str,
    k: int,
) -> list[Increment]:
    """The increments of journeys that started in a span; none where a group is below `k` people.

    Errors: as `connectors.clickhouse.reader.read_rows`.
    """
    asked = {"since_s": since_s, "until_s": until_s, "campaign": campaign, "currency": currency}
    lines = read_people(client, asked)
    if any(0 < people < k for people in groups_of(lines)):
        return []
    return increments(lines, plans_of(settings))


def read_people(client: Client, asked: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """What each person was sent and did, and whether held out. Errors: as `find_increments`."""
    return read_rows(client, PEOPLE_SQL, asked, name="journeys")


def groups_of(lines: Sequence[Sequence[Any]]) -> tuple[int, int]:
    """How many people were told and held out."""
    held_out = sum(bool(line[0]) for line in lines)
    return len(lines) - held_out, held_out


def plans_of(settings: Settings) -> dict[str, Plan]:
    """What was said about each figure before anybody looked. Units: of one notification."""
    said = settings.increment
    return {
        "conversions": Plan(interest=said.conversions_per_1k / PER, alpha=said.alpha),
        "revenue": Plan(interest=said.revenue_per_1k / PER, alpha=said.alpha),
    }


def as_table(found: Sequence[Increment]) -> Table:
    """A table; `-` for a bound that cannot be told yet."""
    table = Table("per 1,000 notifications", box=None)
    for name in ("told", "held out", "difference", "from", "to"):
        table.add_column(name, justify="right")
    table.add_column("verdict")
    for one in found:
        values = (one.told, one.held_out, one.lift, one.low, one.high)
        shown = [f"{value:,.2f}" if math.isfinite(value) else UNKNOWN for value in values]
        table.add_row(one.figure, *shown, one.state)
    return table


def as_csv(found: Sequence[Increment]) -> str:
    """Comma-separated values with a header line; empty for a bound that cannot be told yet."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(_FIELDS)
    writer.writerows([plain(value) for value in one] for one in found)
    return out.getvalue()


def as_json(found: Sequence[Increment]) -> bytes:
    """One array of objects; null for a bound that cannot be told yet."""
    told = [dict(zip(_FIELDS, map(plain, one), strict=True)) for one in found]
    return orjson.dumps(told, option=orjson.OPT_INDENT_2) + b"\n"
