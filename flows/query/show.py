"""Print the answer to a question: a table for people, CSV and JSON for programs."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any, Final

import orjson
from rich.table import Table

from flows.query.compile import Query
from schemas.metrics import Catalog, Metric

Lines = Sequence[Sequence[Any]]

UNKNOWN: Final = "-"


def as_csv(query: Query, lines: Lines) -> str:
    """Comma-separated values with a header line, RFC 4180; empty where a value is unknown."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow((*query.keys, *query.metrics))
    writer.writerows([plain(value) for value in line] for line in lines)
    return out.getvalue()


def as_json(query: Query, lines: Lines) -> bytes:
    """One array of objects; null where a value is unknown."""
    names = (*query.keys, *query.metrics)
    told = [dict(zip(names, map(plain, line), strict=True)) for line in lines]
    return orjson.dumps(told, option=orjson.OPT_INDENT_2) + b"\n"


def plain(value: Any) -> Any:
    """A value as JSON has it: times in ISO 8601 UTC, nothing for what is no number."""
    if isinstance(value, datetime):
        return value.replace(tzinfo=UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def as_table(catalog: Catalog, query: Query, lines: Lines) -> Table:
    """A table with each metric in its own form."""
    table = Table(box=None)
    for name in query.keys:
        table.add_column("time (UTC)" if name == "t" else name)
    metrics = [catalog.by_name[name] for name in query.metrics]
    for metric in metrics:
        table.add_column(metric.name, justify="right")
    for line in lines:
        keys, values = line[: len(query.keys)], line[len(query.keys) :]
        told = [shown(metric, value) for metric, value in zip(metrics, values, strict=True)]
        table.add_row(*(_key(key) for key in keys), *told)
    return table


def _key(value: Any) -> str:
    return f"{value:%Y-%m-%d %H:%M}" if isinstance(value, datetime) else str(value) or UNKNOWN


def shown(metric: Metric, value: Any) -> str:
    """A value of a metric as people read it: as `written`, in the metric's format."""
    return written(value, metric.format)


def written(value: Any, form: str) -> str:
    """A number as people read it, by the format of a metric.

    Units: money in minor units of its currency, a percent of the whole.

    >>> written(0.25, "percent"), written(1200, "count"), written(None, "count")
    ('25.00 %', '1,200', '-')
    """
    value = plain(value)
    if value is None:
        return UNKNOWN
    if form == "percent":
        return f"{100 * value:.2f} %"
    if form == "seconds":
        return f"{value:,.1f} s"
    if form == "count" and float(value).is_integer():
        return f"{int(value):,}"
    return f"{value:,.2f}"


def objectives_table(catalog: Catalog, values: dict[str, float | None], today: date) -> Table:
    """Where each key result stands: how much of the way from baseline to target is done."""
    table = Table(
        "objective", "owner", "metric", "baseline", "now", "target", "done", "due", box=None
    )
    for objective in catalog.objectives:
        for result in objective.key_results:
            metric = catalog.by_name[result.metric]
            now = values.get(result.metric)
            share = progress(result.baseline, result.target, now)
            table.add_row(
                objective.objective,
                objective.owner,
                result.metric,
                shown(metric, result.baseline),
                shown(metric, now),
                shown(metric, result.target),
                UNKNOWN if share is None else f"{100 * share:.0f} %",
                f"{result.due:%Y-%m-%d}{' (over)' if result.due < today else ''}",
            )
    return table


def progress(baseline: float, target: float, now: float | None) -> float | None:
    """The share of the way from a baseline to a target; unknown without a value or a way.

    >>> progress(0.2, 0.4, 0.25)
    0.25
    """
    if now is None or target == baseline:
        return None
    return round((now - baseline) / (target - baseline), 9)
