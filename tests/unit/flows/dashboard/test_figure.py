"""What is drawn of an answer, and how it is written as cells, JSON and CSV."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from flows.dashboard.answer import Answer
from flows.dashboard.figure import OTHERS, SERIES_MAX, draw
from flows.dashboard.pages import _script_safe
from flows.dashboard.queries import Form
from flows.dashboard.write import as_csv, as_json
from schemas.dashboard import Chart

AT = datetime(2026, 11, 30, 12, tzinfo=UTC)


def answer(columns: dict[str, Form], *lines: tuple[Any, ...]) -> Answer:
    return Answer(columns, lines, "a note")


def data(chart: Chart, told: Answer) -> list[dict[str, Any]]:
    figure = draw(chart, told)
    assert figure is not None
    traces: list[dict[str, Any]] = figure["data"]
    return traces


def test_series_of_a_dimension_have_their_own_points() -> None:
    chart = Chart(kind="lines", x="t", y=("rate",), by="arm")
    later = AT + timedelta(hours=1)
    lines = [(AT, "holdout", 0.1), (AT, "optimised", 0.2), (later, "optimised", 0.3)]
    traces = data(chart, answer({"t": "time", "arm": "text", "rate": "percent"}, *lines))

    assert [("holdout", [0.1]), ("optimised", [0.2, 0.3])] == [
        (trace["name"], trace["y"]) for trace in traces
    ]
    assert ["2026-11-30T12:00:00Z", "2026-11-30T13:00:00Z"] == traces[1]["x"]


def test_counts_beyond_the_colours_are_added_up_and_rates_are_not() -> None:
    lines = [(AT, f"type {number:02}", 100 - number) for number in range(SERIES_MAX + 5)]
    chart = Chart(kind="bars", x="t", y=("n",), by="kind", stacked=True)
    counts = data(chart, answer({"t": "time", "kind": "text", "n": "count"}, *lines))
    rates = data(chart, answer({"t": "time", "kind": "text", "n": "percent"}, *lines))

    assert sum(n for _, _, n in lines) == sum(sum(trace["y"]) for trace in counts)
    assert OTHERS in {trace["name"] for trace in counts}
    assert len(counts) == SERIES_MAX
    assert OTHERS not in {trace["name"] for trace in rates}


def test_bounds_are_drawn_where_they_are_known() -> None:
    chart = Chart(kind="band", x="hour", y=("rate",), low="low", high="high", level=0.0)
    columns: dict[str, Form] = {
        "hour": "count",
        "rate": "percent",
        "low": "percent",
        "high": "percent",
    }
    told = answer(columns, (7, 0.1, None, None), (8, 0.2, 0.1, 0.3), (9, 0.2, float("nan"), 0.3))
    low, high, line = data(chart, told)

    assert ([8], [0.1], [0.3]) == (low["x"], low["y"], high["y"])
    assert [7, 8, 9] == line["x"]
    figure = draw(chart, told)
    assert figure is not None
    assert 0.0 == figure["layout"]["shapes"][0]["y0"]


def test_a_cell_that_nobody_told_of_is_empty() -> None:
    chart = Chart(kind="heat", x="hour", y=("weekday",), z="n")
    columns: dict[str, Form] = {"hour": "count", "weekday": "text", "n": "count"}
    (trace,) = data(chart, answer(columns, (9, "Mon", 3), (8, "Tue", 4)))

    assert ([8, 9], ["Mon", "Tue"]) == (trace["x"], trace["y"])
    assert [[None, 3], [4, None]] == trace["z"]


def test_names_of_producers_are_no_markup() -> None:
    chart = Chart(kind="bars", x="campaign", y=("n",))
    told = answer({"campaign": "text", "n": "count"}, ("<a href='x'>sale</a>", 1))

    assert ["&lt;a href='x'&gt;sale&lt;/a&gt;"] == data(chart, told)[0]["x"]


def test_a_figure_in_a_page_ends_no_script() -> None:
    told = {"name": "</script><!-- & -->"}
    text = _script_safe(told)

    assert not set("<>&") & set(text)
    assert told == orjson.loads(text)


def test_nothing_is_drawn_of_nothing() -> None:
    assert draw(Chart(kind="lines", x="t", y=("n",)), answer({"t": "time", "n": "count"})) is None
    assert draw(Chart(), answer({"n": "count"}, (1,))) is None


def test_the_diagonal_spans_what_is_told() -> None:
    chart = Chart(kind="lines", x="expected", y=("rate",), diagonal=True)
    told = answer({"expected": "percent", "rate": "percent"}, (0.1, 0.2), (0.5, 0.4))

    assert [0.1, 0.5] == data(chart, told)[-1]["x"]


def test_json_has_null_for_what_is_unknown() -> None:
    told = answer({"t": "time", "rate": "percent"}, (AT, None), (AT, float("nan")))

    line = {"t": "2026-11-30T12:00:00Z", "rate": None}
    assert {"columns": {"t": "time", "rate": "percent"}, "lines": [line] * 2, "note": "a note"} == (
        orjson.loads(as_json(told))
    )


def test_csv_has_no_formulas_of_producers() -> None:
    told = answer(
        {"source": "text", "n": "number"},
        ("=HYPERLINK(1)", -1.5),
        ("plain, text", 2.0),
        ("\t=1", 0),
    )

    assert "source,n\r\n'=HYPERLINK(1),-1.5\r\n\"plain, text\",2.0\r\n'\t=1,0\r\n" == as_csv(told)


def test_unknown_values_are_no_fault_of_a_figure() -> None:
    chart = Chart(kind="lines", x="expected", y=("rate",), diagonal=True)
    columns: dict[str, Form] = {"expected": "percent", "rate": "percent"}
    heat = Chart(kind="heat", x="hour", y=("weekday",), z="n")
    cells: dict[str, Form] = {"hour": "count", "weekday": "text", "n": "count"}

    assert [0.1, 0.1] == data(chart, answer(columns, (None, 0.1), (float("nan"), None)))[-1]["x"]
    assert 1 == len(data(chart, answer(columns, (None, None))))
    assert [8] == data(heat, answer(cells, (None, "Mon", 3), (8, "Mon", 4)))[0]["x"]


def test_series_without_a_name_and_of_our_names_stay_apart() -> None:
    chart = Chart(kind="lines", x="t", y=("n",), by="kind")
    told = answer({"t": "time", "kind": "text", "n": "percent"}, (AT, "", 0.1), (AT, "-", 0.2))

    assert [("-", [0.1]), ("-", [0.2])] == [(each["name"], each["y"]) for each in data(chart, told)]
