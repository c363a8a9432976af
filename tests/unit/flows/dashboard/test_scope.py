"""What the words of an address ask for."""

from __future__ import annotations

import pytest

from flows.dashboard.scope import Scope, read_scope
from schemas.errors import ConfigError

NOW_MS = 1_800_000_000_000
DAY_S = 86_400


def read(**asked: str) -> Scope:
    return read_scope(asked, now_ms=NOW_MS, k=0)


def test_nothing_asks_for_the_last_days_of_all_campaigns() -> None:
    scope = read()

    assert (NOW_MS // 1_000 - 7 * DAY_S, NOW_MS // 1_000) == (scope.since_s, scope.until_s)
    assert ("", "hour") == (scope.campaign, scope.grain)


@pytest.mark.parametrize(
    ("since", "grain", "step_s"),
    [
        ("1h", "minute", 60),
        ("6h", "minute", 300),
        ("1d", "hour", 900),
        ("90d", "day", 86_400),
        ("2000d", "week", 86_400),
    ],
)
def test_steps_grow_with_the_span(since: str, grain: str, step_s: int) -> None:
    scope = read(since=since)

    assert (grain, step_s) == (scope.grain, scope.step_s)


@pytest.mark.parametrize(
    "asked",
    [
        {"since": "yesterday"},
        {"since": "0001-01-01"},
        {"since": "1d", "until": "2d"},
        {"until": "2200-01-01", "since": "2199-01-01"},
        {"since": "9" * 300},
        {"campaign": "x" * 300},
    ],
)
def test_what_is_no_span_or_campaign_is_refused(asked: dict[str, str]) -> None:
    with pytest.raises(ConfigError):
        read(**asked)


def test_spans_of_roles_that_may_not_see_small_groups_are_whole_hours() -> None:
    now_s = NOW_MS // 1_000
    short = read_scope({"since": "90s"}, now_ms=NOW_MS + 90_000, k=10)
    day = read_scope({"since": "1d"}, now_ms=NOW_MS + 90_000, k=10)

    assert (now_s - 3_600, now_s) == (short.since_s, short.until_s)
    assert (now_s - DAY_S, now_s) == (day.since_s, day.until_s)
    with pytest.raises(ConfigError, match="not after its beginning"):
        read_scope({"since": "10m", "until": "20m"}, now_ms=NOW_MS, k=10)
