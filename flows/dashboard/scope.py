"""What a page is asked about: a span of time, one campaign or all, and who looks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from flows.query.ask import moment
from schemas.errors import ConfigError

DEFAULT_SINCE: Final = "7d"
SPANS: Final = ("1h", "6h", "1d", "7d", "30d", "90d")
"""Spans that are offered; any other span or time can be asked for."""

_TEXT_MAX: Final = 200
_STEPS_MAX: Final = 120
_STEPS_S: Final = (60, 300, 900, 3_600, 10_800, 21_600, 86_400)
_HOUR_S: Final = 3_600
_MINUTES_S_MAX: Final = 6 * 3_600
_HOURS_S_MAX: Final = 14 * 86_400
_DAYS_S_MAX: Final = 366 * 86_400


class Scope(NamedTuple):
    """What is asked, in figures.

    Units: seconds and milliseconds since 1970 UTC. `k` is the least number of people that a line
    may be about, 0 without a bound. `since` and `until` are as they were typed.
    """

    since_s: int
    until_s: int
    now_ms: int
    since: str = DEFAULT_SINCE
    until: str = "now"
    campaign: str = ""
    k: int = 0

    @property
    def grain(self) -> str:
        """The step of time for metrics: minutes for hours, weeks for years."""
        span_s = self.until_s - self.since_s
        if span_s <= _MINUTES_S_MAX:
            return "minute"
        if span_s <= _HOURS_S_MAX:
            return "hour"
        return "day" if span_s <= _DAYS_S_MAX else "week"

    @property
    def step_s(self) -> int:
        """The step of time for other questions, seconds: the shortest that gives few enough.

        >>> Scope(0, 3_600, 0).step_s, Scope(0, 7 * 86_400, 0).step_s
        (60, 10800)
        """
        fitting = (step for step in _STEPS_S if self.until_s - self.since_s <= step * _STEPS_MAX)
        return next(fitting, _STEPS_S[-1])


def read_scope(asked: Mapping[str, str], *, now_ms: int, k: int) -> Scope:
    """What the words of an address ask for.

    For a role that may not see small groups (`k`), spans are of whole hours that are over.
    Errors: ConfigError for a time that is none, a span that ends before it begins, and a campaign
    that is too long to be one.
    """
    since = asked.get("since", "").strip() or DEFAULT_SINCE
    until = asked.get("until", "").strip() or "now"
    campaign = asked.get("campaign", "")
    for kind, text in (("time", since), ("time", until), ("campaign", campaign)):
        if len(text) > _TEXT_MAX:
            raise ConfigError(
                do="read",
                kind=kind,
                found=f"{len(text)} characters",
                expected=f"at most {_TEXT_MAX}",
            )
    now_s = now_ms // 1_000
    since_s, until_s = moment(since, now_s), moment(until, now_s)
    if not 0 <= since_s < until_s < 2**32:
        raise ConfigError(
            do="use",
            kind="span",
            found="an end that is not after its beginning",
            expected="an earlier beginning",
        )
    if k:  # two spans that differ by seconds would tell what one person did
        until_s = until_s // _HOUR_S * _HOUR_S
        since_s = min(since_s // _HOUR_S * _HOUR_S, until_s - _HOUR_S)
    return Scope(since_s, until_s, now_ms, since, until, campaign, k)
