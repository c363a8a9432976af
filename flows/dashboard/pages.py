"""Make the pages: each panel is a chart, and a table for those who read or have no script."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import urlencode

import jinja2
import orjson

from flows.dashboard.answer import Answer, Asker
from flows.dashboard.figure import draw
from flows.dashboard.scope import SPANS, Scope
from flows.dashboard.write import cell
from schemas.dashboard import Dashboard, Page, Panel
from schemas.errors import AirsideError, TransientError

ROWS_MAX: Final = 200
"""Lines that a table shows; files have all of them."""

PAGE_S_MAX: Final = 20.0
"""Seconds after which a page asks no further panel."""

_SECONDS: Final = (0, 10, 60, 300)
_NO_LINES: Final = "Nothing is known of then, or the groups are too small to be shown."


class Shown(NamedTuple):
    """One panel with its answer, or with what was in the way."""

    panel: Panel
    answer: Answer | None
    fault: str = ""


def make_templates() -> jinja2.Environment:
    """The templates of this package; what they are given is escaped."""
    return jinja2.Environment(
        loader=jinja2.PackageLoader("flows.dashboard"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def ask_all(
    asker: Asker, page: Page, scope: Scope, *, clock: Callable[[], float] = time.monotonic
) -> list[Shown]:
    """The answers of a page; once ClickHouse is away or slow, no further panel waits for it."""
    shown: list[Shown] = []
    away, end_s = "", clock() + PAGE_S_MAX
    for panel in page.panels:
        if not away and clock() > end_s:
            away = f"not asked: the panels before took over {PAGE_S_MAX:.0f} s; shorten the span"
        if away:
            shown.append(Shown(panel, None, away))
            continue
        try:
            shown.append(Shown(panel, asker.answer(panel, scope)))
        except AirsideError as fault:
            shown.append(Shown(panel, None, str(fault)))
            if _is_away(fault):
                away = str(fault)
    return shown


def _is_away(fault: AirsideError) -> bool:
    """Whether nobody answered; an answer with an error is about one question."""
    return isinstance(fault, TransientError) and not fault.found.startswith("ClickHouse error")


def page_html(
    templates: jinja2.Environment,
    dashboard: Dashboard,
    page: Page,
    scope: Scope,
    shown: Sequence[Shown],
    *,
    campaigns: Sequence[str],
    refresh_s: int,
    role: str,
    version: str,
) -> str:
    """The whole page."""
    asked = {"since": scope.since, "until": scope.until, "campaign": scope.campaign}
    kept = {name: value for name, value in asked.items() if value}
    return templates.get_template("page.html").render(
        pages=dashboard.pages,
        page=page,
        panels=[_told(one, page, kept) for one in shown],
        scope=scope,
        spans=list(dict.fromkeys((*SPANS, scope.since))),
        campaigns=sorted({*campaigns, *([scope.campaign] if scope.campaign else [])}),
        refresh_s=refresh_s,
        seconds=sorted({*_SECONDS, refresh_s}),
        link=urlencode(kept | ({"refresh": refresh_s} if refresh_s else {})),
        role=role,
        version=version,
    )


def fault_html(templates: jinja2.Environment, dashboard: Dashboard, fault: str) -> str:
    """A page that says what was wrong with what was asked."""
    return templates.get_template("fault.html").render(pages=dashboard.pages, fault=fault)


def _told(shown: Shown, page: Page, kept: Mapping[str, str]) -> dict[str, Any]:
    panel, answer = shown.panel, shown.answer
    address = f"/{page.page}/{panel.panel}"
    told: dict[str, Any] = {
        "panel": panel,
        "fault": shown.fault,
        "note": answer.note if answer else "",
        "json": f"{address}.json?{urlencode(kept)}",
        "csv": f"{address}.csv?{urlencode(kept)}",
        "figure": None,
        "numbers": [],
        "table": None,
        "empty": "",
    }
    if answer is None:
        return told
    if not answer.lines:
        return told | {"empty": _NO_LINES}
    if panel.chart.kind == "numbers":
        forms = answer.columns.items()
        first = zip(forms, answer.lines[0], strict=True)
        return told | {"numbers": [(name, cell(value, form)) for (name, form), value in first]}
    figure = draw(panel.chart, answer)
    return told | {"figure": _script_safe(figure) if figure else None, "table": _table(answer)}


def _table(answer: Answer) -> dict[str, Any]:
    forms = list(answer.columns.values())
    lines = [
        [(cell(value, form), form) for value, form in zip(line, forms, strict=True)]
        for line in answer.lines[:ROWS_MAX]
    ]
    return {
        "columns": [
            ("time (UTC)" if name == "t" else name, form) for name, form in answer.columns.items()
        ],
        "lines": lines,
        "left_out": max(0, len(answer.lines) - ROWS_MAX),
    }


def _script_safe(value: Any) -> str:
    """JSON that may stand inside a script element: nothing in it ends the element."""
    text = orjson.dumps(value).decode()
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text
