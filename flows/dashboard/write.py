"""Write an answer: cells of a table for people, CSV and JSON for programs."""

from __future__ import annotations

import csv
import io
import re
from datetime import datetime
from typing import Any, Final

import orjson

from flows.dashboard.answer import Answer
from flows.dashboard.queries import Form
from flows.query.show import UNKNOWN, plain, written

_FIGURE: Final = re.compile(r"-?[0-9][0-9,.]*( %| s)?")
_FORMULA: Final = ("=", "+", "-", "@")


def cell(value: Any, form: Form) -> str:
    """A value as people read it; times are UTC.

    >>> cell(0.5, "percent"), cell("", "text"), cell(True, "yes"), cell(2, "count")
    ('50.00 %', '-', 'yes', '2')
    """
    if value is None:
        return UNKNOWN
    if form == "yes":
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}"
    return (str(value) or UNKNOWN) if form in {"text", "time"} else written(value, form)


def as_json(answer: Answer) -> bytes:
    """An object with `lines`, one object each, null where a value is unknown; and the `note`."""
    lines = [dict(zip(answer.columns, map(plain, line), strict=True)) for line in answer.lines]
    told = {"columns": dict(answer.columns), "lines": lines, "note": answer.note}
    return orjson.dumps(told, option=orjson.OPT_INDENT_2)


def as_csv(answer: Answer) -> str:
    """Comma-separated values with a header line, RFC 4180; empty where a value is unknown.

    Producers wrote some texts: one that a spreadsheet would run has an apostrophe before it.
    """
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(answer.columns)
    writer.writerows([_safe(plain(value)) for value in line] for line in answer.lines)
    return out.getvalue()


def _safe(value: Any) -> Any:
    if not isinstance(value, str) or _FIGURE.fullmatch(value):
        return value
    is_formula = value.lstrip().startswith(_FORMULA)
    return "'" + value if is_formula else value
