"""Draw an answer: what Plotly's script needs to know of it, as plain values.

Source: the names are those of Plotly's schema (traces `scatter`, `bar`, `heatmap`).
"""

from __future__ import annotations

import html
from typing import Any, Final

from flows.dashboard.answer import Answer, Lines
from flows.dashboard.queries import Form
from flows.query.show import UNKNOWN, plain
from schemas.dashboard import Chart

# Colours that people with any colour vision tell apart. Source: Okabe and Ito 2008, without black.
COLOURS: Final = (
    *("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#b3a100"),
    *("#7a7a7a", "#8c564b", "#17becf", "#9467bd", "#2f4b7c"),
)
SERIES_MAX: Final = len(COLOURS)
BARS_MAX: Final = 100
"""Bars that stand beside each other, the largest; the table has more lines."""

OTHERS: Final = "(others)"

_FORMATS: Final = {"percent": ".1%", "count": ",.0f", "seconds": ",.3~r", "money": ",.2f"}


def draw(chart: Chart, answer: Answer) -> dict[str, Any] | None:
    """A figure; none for what is only written.

    Shapes: `data` are traces, `layout` the axes; texts have `<` and `&` escaped, since Plotly reads
    them as markup.
    """
    if chart.kind in {"table", "numbers"} or not answer.lines:
        return None
    if chart.kind == "bars" and not chart.by:
        answer = answer._replace(lines=_largest(chart, answer))
    traces = _heat(chart, answer) if chart.kind == "heat" else _traces(chart, answer)
    legend = sum(trace.get("showlegend", True) for trace in traces) > 1
    return {"data": traces, "layout": _layout(chart, answer) | {"showlegend": legend}}


def _largest(chart: Chart, answer: Answer) -> Lines:
    if len(answer.lines) <= BARS_MAX:
        return answer.lines
    size = [plain(y) or 0 for y in answer.column(chart.y[0])]
    kept = sorted(range(len(size)), key=lambda place: -size[place])[:BARS_MAX]
    return [answer.lines[place] for place in sorted(kept)]


def _traces(chart: Chart, answer: Answer) -> list[dict[str, Any]]:
    if chart.by:
        series = _by_value(chart, answer)
    else:
        xs = answer.column(chart.x)
        series = {name: list(zip(xs, answer.column(name), strict=True)) for name in chart.y}
    traces = [
        _trace(chart, name, points, answer.columns[chart.x], COLOURS[place % len(COLOURS)])
        for place, (name, points) in enumerate(series.items())
    ]
    return [*_bounds(chart, answer), *traces, *_diagonal(chart, answer)]


def _by_value(chart: Chart, answer: Answer) -> dict[str, list[tuple[Any, Any]]]:
    """The points of each series, the largest ones; what is left is added up where that is right."""
    (column,) = chart.y
    xs, ys, names = (answer.column(name) for name in (chart.x, column, chart.by))
    ys, names = [plain(y) for y in ys], [str(name) for name in names]
    size: dict[str, float] = {}
    for name, y in zip(names, ys, strict=True):
        size[name] = size.get(name, 0.0) + abs(y or 0.0)
    largest = sorted(size, key=lambda name: -size[name])
    kept = largest if len(largest) <= SERIES_MAX else largest[: SERIES_MAX - 1]
    series: dict[str, dict[Any, Any]] = {name: {} for name in sorted(kept)}
    others: dict[Any, Any] = {}
    adds_up = answer.columns[column] == "count"
    for x, y, name in zip(xs, ys, names, strict=True):
        points = series.get(name, others)
        points[x] = points.get(x, 0) + (y or 0) if adds_up else y
    told = {name: list(points.items()) for name, points in series.items()}
    return told | ({OTHERS: list(others.items())} if adds_up and others else {})


def _trace(
    chart: Chart, name: str, points: list[tuple[Any, Any]], form: Form, colour: str
) -> dict[str, Any]:
    trace: dict[str, Any] = {
        "name": _text(name or UNKNOWN),
        "x": [_value(x, form) for x, _ in points],
        "y": [plain(y) for _, y in points],
    }
    if chart.kind == "bars":
        return trace | {"type": "bar", "marker": {"color": colour}}
    return trace | {
        "type": "scatter",
        "mode": "lines+markers",
        "line": {"color": colour, "width": 2},
        "marker": {"size": 4},
    }


def _bounds(chart: Chart, answer: Answer) -> list[dict[str, Any]]:
    """The area between the bounds, behind the line."""
    if chart.kind != "band":
        return []
    form = answer.columns[chart.x]
    told = zip(*(answer.column(name) for name in (chart.x, chart.low, chart.high)), strict=True)
    known = [point for point in told if None not in map(plain, point)]
    edges = {"type": "scatter", "mode": "lines", "line": {"width": 0}}
    edges |= {"x": [_value(x, form) for x, _, _ in known]}
    low = {"name": _text(chart.low), "y": [y for _, y, _ in known]}
    high = {"name": _text(chart.high), "y": [y for _, _, y in known]}
    area = {"fill": "tonexty", "fillcolor": "rgba(0,114,178,0.2)"}
    return [{**edges, **low, "showlegend": False}, {**edges, **high, **area, "showlegend": False}]


def _diagonal(chart: Chart, answer: Answer) -> list[dict[str, Any]]:
    if not chart.diagonal:
        return []
    told = [plain(value) for name in (chart.x, *chart.y) for value in answer.column(name)]
    told = [value for value in told if value is not None]
    if not told:
        return []
    ends = [min(told), max(told)]
    line = {"color": "#7a7a7a", "dash": "dot", "width": 1}
    kind = {"type": "scatter", "mode": "lines", "hoverinfo": "skip", "showlegend": False}
    return [{**kind, "name": "equal", "x": ends, "y": ends, "line": line}]


def _heat(chart: Chart, answer: Answer) -> list[dict[str, Any]]:
    (column,) = chart.y
    xs, ys, zs = (answer.column(name) for name in (chart.x, column, chart.z))
    columns, rows = sorted({x for x in xs if x is not None}), list(dict.fromkeys(ys))
    cells = {(x, y): plain(z) for x, y, z in zip(xs, ys, zs, strict=True)}
    form = answer.columns[chart.x]
    return [
        {
            "type": "heatmap",
            "name": _text(chart.z),
            "x": [_value(x, form) for x in columns],
            "y": [_text(y) for y in rows],
            "z": [[cells.get((x, y)) for x in columns] for y in rows],
            "colorscale": "Viridis",
            "hoverongaps": False,
        }
    ]


def _layout(chart: Chart, answer: Answer) -> dict[str, Any]:
    x: dict[str, Any] = {"title": {"text": "" if chart.x == "t" else _text(chart.x)}}
    y: dict[str, Any] = {"title": {"text": "" if len(chart.y) > 1 else _text(chart.y[0])}}
    if answer.columns[chart.x] == "time":
        x["type"] = "date"
    elif answer.columns[chart.x] == "text":
        x["type"] = "category"
    for axis, name in ((x, chart.x), (y, chart.y[0])):
        form = _FORMATS.get(answer.columns[name])
        if form and axis.get("type") != "date":
            axis["tickformat"] = form
    layout: dict[str, Any] = {"xaxis": x, "yaxis": y}
    if chart.kind == "heat":
        y |= {"autorange": "reversed", "type": "category"}
    if chart.kind == "bars":
        layout["barmode"] = "stack" if chart.stacked else "group"
    if chart.level is not None:
        line = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": chart.level}
        dotted = {"y1": chart.level, "line": {"color": "#7a7a7a", "dash": "dot", "width": 1}}
        layout["shapes"] = [{**line, **dotted}]
    return layout


def _value(value: Any, form: Form) -> Any:
    return _text(value) if form == "text" else plain(value)


def _text(value: Any) -> str:
    return html.escape(str(value), quote=False)
