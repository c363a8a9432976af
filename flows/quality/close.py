"""Judge minutes when they are over: anomalies, and rules whose severity changed."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, Final, NamedTuple

from flows.quality.cells import MINUTE_MS, Cells, Key
from flows.quality.detect import Anomaly, Limits, Series, dump_series, load_series
from schemas.quality import VOLUME, Quality

SILENCE_MINUTES_MAX: Final = 180
"""After a longer silence of a whole lane what is usual is learned anew."""

ANOMALIES: Final = (
    "w",
    "dataset",
    "producer",
    "kind",
    "lane",
    "expected",
    "observed",
    "score",
    "ver",
)


class Judged(NamedTuple):
    """What was found in minutes: bodies of findings with their `at_ms`, and lines of anomalies."""

    bodies: list[dict[str, Any]]
    lines: list[tuple[Any, ...]]


class Closing:
    """The open minutes of one lane, and what is usual in those before.

    State: events by type of each open minute, the detectors of each producer and topic, the last
    severity of each rule there. Corrections that come after a minute was judged change its rows,
    and no finding.
    """

    def __init__(self, quality: Quality, cells: Cells, limits: Limits) -> None:
        self._rules = quality.rules
        self._cells = cells
        self._limits = limits
        self._types: dict[Key, dict[str, int]] = {}
        self._series: dict[tuple[str, str], Series] = {}
        self._severity: dict[tuple[str, str, str], str] = {}
        self._closed = 0

    def add(self, types: dict[Key, dict[str, int]]) -> None:
        """Take in how many events of each type came; judged minutes stay as they were."""
        for key, mix in types.items():
            if key.minute >= self._closed:
                kept = self._types.setdefault(key, {})
                for name, n in mix.items():
                    kept[name] = kept.get(name, 0) + n

    def close_before(self, end: int, lane: int) -> Judged:
        """Judge every minute before this one, producer by producer in the order of names."""
        judged = Judged([], [])
        if end <= self._closed:
            return judged
        by_minute: dict[int, list[Key]] = defaultdict(list)
        for key in self._types:
            if key.minute < end:
                by_minute[key.minute].append(key)
        if not by_minute and not self._closed:
            return judged
        at = self._closed or min(by_minute)
        for minute in [*sorted(by_minute), end]:
            if minute - at > SILENCE_MINUTES_MAX:
                self._series.clear()
                at = minute
            for each in range(at, min(minute + 1, end)):
                self._close(each, by_minute.get(each, ()), lane, judged)
            at = max(at, minute + 1)
        self._closed = max(self._closed, end)
        for keys in by_minute.values():
            for key in keys:
                del self._types[key]
        return judged

    def _close(self, minute: int, keys: Any, lane: int, judged: Judged) -> None:
        for key in keys:
            self._series.setdefault(key[1:], Series())
        for dataset, producer in sorted(self._series):
            key = Key(minute, dataset, producer)
            counts = self._types.get(key, {})
            for anomaly in self._series[dataset, producer].close(counts, self._limits):
                judged.bodies.append(_anomalous(key, anomaly))
                judged.lines.append(_line(key, anomaly, lane))
            judged.bodies.extend(self._violations(key))

    def _violations(self, key: Key) -> list[dict[str, Any]]:
        """The rules whose severity is another than in the last minute with enough messages."""
        found = []
        for number, rule in enumerate(self._rules):
            checked, failed = self._cells.found(key, number)
            if checked < rule.least:
                continue
            severity = rule.severity(checked, failed)
            where = (key.dataset, key.producer, rule.name)
            if severity != self._severity.get(where, "ok"):
                about = about_key(key, rule.name, rule.dimension)
                told = {"severity": severity, "checked": checked, "failed": failed}
                found.append({"finding": "violation", **about, **told})
            self._severity[where] = severity
        return found

    def dump(self) -> dict[str, Any]:
        """A copy, for a snapshot."""
        return {
            "series": dump_series(self._series),
            "types": [[*key, dict(mix)] for key, mix in self._types.items()],
            "severity": [[*where, one] for where, one in self._severity.items()],
            "closed": self._closed,
        }

    def load(self, dumped: dict[str, Any]) -> None:
        """Take back what `dump` gave."""
        self._series = load_series(dumped["series"])
        self._types = {Key(a, b, c): mix for a, b, c, mix in dumped["types"]}
        self._severity = {(a, b, c): one for a, b, c, one in dumped["severity"]}
        self._closed = dumped["closed"]


def about_key(key: Key, rule: str, dimension: str) -> dict[str, Any]:
    """What every finding says: where and when."""
    return {
        "dataset": key.dataset,
        "producer": key.producer,
        "rule": rule,
        "dimension": dimension,
        "at_ms": key.minute * MINUTE_MS,
    }


def _anomalous(key: Key, anomaly: Anomaly) -> dict[str, Any]:
    return {
        "finding": "anomaly",
        **about_key(key, anomaly.kind, VOLUME),
        "severity": "warn",
        "expected": round(anomaly.expected, 6),
        "observed": round(anomaly.observed, 6),
        "score": round(anomaly.score, 6),
    }


def _line(key: Key, anomaly: Anomaly, lane: int) -> tuple[Any, ...]:
    at_ms = key.minute * MINUTE_MS
    return (at_ms, key.dataset, key.producer, anomaly.kind, lane, *anomaly[1:], 1)
