"""The commands `quality`, a scoreboard, and `lineage`, what is declared and what was seen."""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import orjson
from clickhouse_connect.driver.client import Client
from rich.console import Console
from rich.table import Table

from connectors.clickhouse.client import connect
from connectors.clickhouse.reader import read_rows
from connectors.clock import SystemClock
from flows.quality.export import ObservedEdge, export
from flows.query.ask import moment
from flows.settings import read_settings

SCORES_SQL: Final = """
SELECT dataset, producer, dimension, rule,
    sum(checked) AS checked, sum(failed) AS failed,
    countIf(severity = 'warn') AS warned, countIf(severity = 'error') AS errors
FROM quality FINAL
WHERE w >= fromUnixTimestamp({since:Int64}) AND w < fromUnixTimestamp({until:Int64})
GROUP BY dataset, producer, dimension, rule
ORDER BY errors DESC, warned DESC, failed / greatest(checked, 1) DESC,
    dataset, producer, dimension, rule
"""
ANOMALIES_SQL: Final = """
SELECT w, dataset, producer, kind, expected, observed, score
FROM anomalies FINAL
WHERE w >= fromUnixTimestamp({since:Int64}) AND w < fromUnixTimestamp({until:Int64})
ORDER BY w, dataset, producer, kind, lane
"""
EDGES_SQL: Final = """
SELECT from_node, to_node, min(declared) AS declared, sum(n) AS n
FROM lineage_edges FINAL
GROUP BY from_node, to_node
ORDER BY declared, from_node, to_node
"""
NAMES: Final = ("dataset", "producer", "dimension", "rule", "checked", "failed", "warn", "error")
ANOMALY_NAMES: Final = ("minute", "dataset", "producer", "kind", "expected", "observed", "score")
EDGE_NAMES: Final = ("from", "to", "declared", "events")

_console = Console(highlight=False, soft_wrap=True)
_EMPTY: Final = "no lines: nothing came in then"


def add_quality_commands(some: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `quality` and `lineage`."""
    quality = some.add_parser("quality", help="print how good the data is, by topic and producer")
    quality.add_argument("--since", default="1d", help="a span back, or a time in UTC (default 1d)")
    quality.add_argument("--until", default="now", help="the end, not included")
    quality.add_argument("--anomalies", action="store_true", help="unusual minutes instead")
    quality.set_defaults(act=show_quality)
    lineage = some.add_parser("lineage", help="show from where to where data came, or export it")
    lineage.add_argument("what", choices=["show", "export"])
    lineage.set_defaults(act=show_lineage)
    for parser in (quality, lineage):
        parser.add_argument("--format", choices=["table", "csv", "json"], default="table")


def scores(client: Client, since_s: int, until_s: int) -> list[tuple[Any, ...]]:
    """How much was checked and failed by topic, producer and rule, the worst first.

    Shapes: as `NAMES`; `warn` and `error` count minutes of a lane. Where those are the same, the
    greater share of failures is worse.
    Errors: as `connectors.clickhouse.reader.read_rows`.
    """
    span = {"since": since_s, "until": until_s}
    return read_rows(client, SCORES_SQL, span, name="quality")


def anomalies(client: Client, since_s: int, until_s: int) -> list[tuple[Any, ...]]:
    """The unusual minutes of a span. Shapes: as `ANOMALY_NAMES`. Errors: as `scores`."""
    span = {"since": since_s, "until": until_s}
    return read_rows(client, ANOMALIES_SQL, span, name="anomalies")


def edges(client: Client) -> list[ObservedEdge]:
    """Every edge that was seen, undeclared ones first.

    Errors: as `scores`.
    """
    lines = read_rows(client, EDGES_SQL, {}, name="lineage_edges")
    return [(first, to, bool(declared), int(n)) for first, to, declared, n in lines]


def show_quality(options: argparse.Namespace) -> int:
    """Print the scoreboard, or the unusual minutes."""
    now_s = SystemClock().now_ms() // 1_000
    since_s, until_s = moment(options.since, now_s), moment(options.until, now_s)
    client = connect(read_settings().clickhouse_address)
    if options.anomalies:
        show(ANOMALY_NAMES, anomalies(client, since_s, until_s), options.format)
    else:
        show(NAMES, scores(client, since_s, until_s), options.format)
    return 0


def show_lineage(options: argparse.Namespace) -> int:
    """Print the edges, or events of OpenLineage, one in a line."""
    found = edges(connect(read_settings().clickhouse_address))
    if options.what == "show":
        show(EDGE_NAMES, found, options.format)
        return 0
    for event in export(found, SystemClock().now_ms()):
        sys.stdout.buffer.write(orjson.dumps(event, option=orjson.OPT_APPEND_NEWLINE))
    return 0


def show(names: Sequence[str], lines: Sequence[Sequence[Any]], form: str) -> None:
    """Print lines as a table, as CSV or as JSON."""
    if form == "json":
        told = [dict(zip(names, line, strict=True)) for line in lines]
        sys.stdout.buffer.write(orjson.dumps(told, option=orjson.OPT_INDENT_2) + b"\n")
    elif form == "csv":
        writer = csv.writer(sys.stdout)
        writer.writerow(names)
        writer.writerows(lines)
    else:
        _console.print(_as_table(names, lines) if lines else _EMPTY)


def _as_table(names: Sequence[str], lines: Sequence[Sequence[Any]]) -> Table:
    table = Table(box=None)
    for place, name in enumerate(names):
        number = not any(isinstance(line[place], str | bool | datetime) for line in lines)
        table.add_column(name, justify="right" if number else "left")
    for line in lines:
        table.add_row(*map(_shown, line))
    return table


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}"
    return f"{value:,.1f}" if isinstance(value, float) else str(value)
