"""The commands that ask for metrics: from options to a question, from its answer to the printer."""

from __future__ import annotations

import re
import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import orjson
from clickhouse_connect.driver.client import Client
from rich.console import Console
from rich.table import Table

from connectors.clickhouse.client import connect
from connectors.clickhouse.reader import read_rows
from connectors.clock import Clock, SystemClock
from flows.ingest import read_policy
from flows.query.compile import Query, Question, compile_question
from flows.query.show import as_csv, as_json, as_table, objectives_table
from flows.settings import Settings, read_settings
from schemas.errors import ConfigError
from schemas.metrics import Catalog, load_catalog, unknown
from schemas.policy import SPAN, Policy, seconds_of

_console = Console(highlight=False, soft_wrap=True)
_EMPTY: Final = "no lines: nothing happened then, or the groups are too small to be shown"


def query(options: Namespace) -> int:
    """Print metrics, or the list of them."""
    catalog = load_catalog()
    if options.list or not options.metrics:
        _console.print(_listing(catalog))
        return 0
    settings = read_settings()
    question = make_question(options, settings, read_policy(settings), SystemClock())
    asked = compile_question(catalog, question)
    lines = answer(connect(settings.clickhouse_address), asked)
    if options.format == "csv":
        sys.stdout.write(as_csv(asked, lines))
    elif options.format == "json":
        sys.stdout.buffer.write(as_json(asked, lines))
    else:
        _console.print(as_table(catalog, asked, lines) if lines else _EMPTY)
    return 0


def objectives(options: Namespace) -> int:
    """Print where the key results of all objectives stand."""
    catalog, settings, clock = load_catalog(), read_settings(), SystemClock()
    names = {part.metric for goal in catalog.objectives for part in goal.key_results}
    options.metrics, options.by, options.where, options.grain = sorted(names), "", [], ""
    question = make_question(options, settings, read_policy(settings), clock)
    asked = compile_question(catalog, question)
    lines = answer(connect(settings.clickhouse_address), asked)
    # No line: the one that there is would be about fewer people than the role may see.
    line = lines[0] if lines else (None,) * len(asked.metrics)
    values = dict(zip(asked.metrics, line, strict=True))
    if options.format == "json":
        sys.stdout.buffer.write(orjson.dumps(values, option=orjson.OPT_INDENT_2) + b"\n")
    else:
        today = datetime.fromtimestamp(clock.now_ms() / 1_000, UTC).date()
        _console.print(objectives_table(catalog, values, today))
    return 0


def answer(client: Client, asked: Query) -> list[tuple[Any, ...]]:
    """The lines of a query.

    Errors: as `connectors.clickhouse.reader.read_rows`.
    """
    return read_rows(client, asked.sql, asked.parameters, name="metrics")


def make_question(options: Namespace, settings: Settings, policy: Policy, clock: Clock) -> Question:
    """What the options ask for.

    Errors: ConfigError for a time, a condition or a role that is none.
    """
    now_s = clock.now_ms() // 1_000
    return Question(
        metrics=tuple(options.metrics),
        since_s=moment(options.since, now_s),
        until_s=moment(options.until, now_s),
        by=tuple(part for part in options.by.split(",") if part),
        where=_conditions(options.where),
        grain=options.grain,
        currency=options.currency or settings.money.currency,
        costs=settings.money.costs,
        k=least_people(options.role, policy),
    )


def moment(text: str, now_s: int) -> int:
    """A span back from now, or a date or time of ISO 8601, UTC where it says nothing else.

    Errors: ConfigError for a text that is neither.
    """
    if text == "now":
        return now_s
    if re.fullmatch(SPAN, text):
        return max(now_s - seconds_of(text), 0)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(
            do="read",
            kind="time",
            name=text,
            found="neither a span nor a time",
            expected="7d, 36h or 2026-01-31T12:00",
        ) from None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


def _conditions(parts: Sequence[str]) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for part in parts:
        name, sign, value = part.partition("=")
        if not sign:
            raise ConfigError(
                do="read", kind="condition", name=part, found="no =", expected="campaign=spring"
            )
        found[name] = value
    return found


def least_people(role: str, policy: Policy) -> int:
    """How many people a line must be about for this role; 0 for one that may see each.

    Errors: ConfigError for a role that the policy does not name.
    """
    if not role:
        return 0
    if role not in policy.roles:
        raise unknown("role", role, policy.roles)
    return policy.people_min(role)


def _listing(catalog: Catalog) -> Table:
    table = Table("metric", "type", "what it says", "by", box=None)
    for metric in catalog.metrics:
        dimensions = ", ".join(catalog.dimensions_of(metric.name))
        table.add_row(metric.name, metric.type, metric.says, dimensions)
    return table
