"""Answers as tables, CSV and JSON; objectives with how much of their way is done."""

from __future__ import annotations

import csv
import io
from argparse import Namespace
from datetime import UTC, date, datetime
from typing import Any

import orjson
import pytest
from rich.console import Console

from flows.query.ask import make_question
from flows.query.compile import Query
from flows.query.show import as_csv, as_json, as_table, objectives_table, progress, shown
from schemas.errors import ConfigError
from schemas.metrics import load_catalog
from tests.messages import policy, settings

NOW_S = 1_800_000_000
QUERY = Query("", {}, ("t", "campaign"), ("sent", "open_rate", "revenue", "time_to_engage_p50"))
LINES: list[tuple[Any, ...]] = [
    (datetime(2027, 1, 15, 8, tzinfo=UTC), "spring, late", 1_200, 0.25, 990, 61.5),
    (datetime(2027, 1, 15, 9, tzinfo=UTC), "", 0, None, 0, float("nan")),
]


class Standing:
    """A clock that stands."""

    def now_ms(self) -> int:
        return NOW_S * 1_000

    def steady_s(self) -> float:
        return 0.0


def options(**more: Any) -> Namespace:
    given: dict[str, Any] = {
        "metrics": ["sent"],
        "since": "7d",
        "until": "now",
        "by": "",
        "where": [],
        "grain": "",
        "currency": "",
        "role": "",
    }
    return Namespace(**{**given, **more})


def ask(**more: Any) -> Any:
    return make_question(options(**more), settings(), policy(), Standing())


def test_csv_keeps_what_is_unknown_empty_and_quotes_what_needs_it() -> None:
    lines = list(csv.reader(io.StringIO(as_csv(QUERY, LINES))))

    assert ["t", "campaign", *QUERY.metrics] == lines[0]
    assert ["2027-01-15T08:00:00Z", "spring, late", "1200", "0.25", "990", "61.5"] == lines[1]
    assert ["2027-01-15T09:00:00Z", "", "0", "", "0", ""] == lines[2]


def test_json_has_null_for_what_is_unknown() -> None:
    first, second = orjson.loads(as_json(QUERY, LINES))

    assert first["campaign"] == "spring, late"
    assert (None, None) == (second["open_rate"], second["time_to_engage_p50"])


def test_a_table_gives_each_metric_its_own_form() -> None:
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(as_table(load_catalog(), QUERY, LINES))
    text = console.export_text()

    assert all(part in text for part in ("1,200", "25.00 %", "990.00", "61.5 s", "time (UTC)"))
    assert "nan" not in text


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("now", NOW_S),
        ("36h", NOW_S - 129_600),
        ("2026-01-31", 1_769_817_600),
        ("2026-01-31T12:00+02:00", 1_769_853_600),
    ],
)
def test_a_time_is_a_span_back_or_a_moment(text: str, seconds: int) -> None:
    assert seconds == ask(since=text).since_s


def test_what_is_no_time_condition_or_role_is_said() -> None:
    for more, says in (
        ({"since": "yesterday"}, "neither a span nor a time"),
        ({"where": ["campaign"]}, "found no ="),
        ({"role": "analist"}, "expected analyst"),
    ):
        with pytest.raises(ConfigError, match=says):
            ask(**more)


def test_roles_see_groups_of_the_size_that_the_policy_says() -> None:
    assert [10, 0, 0] == [ask(role=role).k for role in ("analyst", "privacy", "")]


def test_the_currency_is_that_of_the_settings_unless_asked_otherwise() -> None:
    assert ["EUR", "SEK"] == [ask(currency=word).currency for word in ("", "SEK")]


def test_objectives_tell_how_much_of_the_way_is_done() -> None:
    console = Console(width=160, record=True, file=io.StringIO())
    values = {"roi": 12.5, "open_rate": None, "unsubscribe_rate": 0.025}
    console.print(objectives_table(load_catalog(), values, date(2027, 4, 1)))
    text = console.export_text()

    assert "50 %" in text
    assert "-50 %" in text
    assert text.count("(over)") == 2


def test_progress_is_unknown_without_a_way() -> None:
    assert progress(1, 1, 1) is None
    assert -0.5 == progress(0.02, 0.01, 0.025)


def test_a_whole_count_has_no_fraction() -> None:
    assert "1,200" == shown(load_catalog().by_name["sent"], 1_200.0)
