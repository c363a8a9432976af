"""Detect that a minute is unlike those before: in its number of events, or in their mix.

Both detectors are sums of their own that a snapshot keeps as numbers. They were chosen by
`python -m tests.measure.anomalies`, against River's detectors.
"""

from __future__ import annotations

from math import sqrt
from typing import Any, Final, Literal, NamedTuple

import msgspec

WARM_UP: Final = 30
"""Minutes that a detector only learns from."""

_MEMORY: Final = 0.05
_CLIP: Final = 3.0
_CALM: Final = 3.0
_TYPES_MAX: Final = 32
_LEAST_EVENTS: Final = 20


class Limits(NamedTuple):
    """From which score a minute is told about, and how many calm ones end it."""

    volume: float = 6.0
    sum_: float = 12.0
    mix: float = 10.0
    calm: int = 30


class Anomaly(NamedTuple):
    """A minute that is unlike those before. Units: `score` in standard deviations."""

    kind: Literal["volume", "mix"]
    expected: float
    observed: float
    score: float


class Level(msgspec.Struct, array_like=True, gc=False):
    """An exponentially forgetting mean and variance, to which an outlier adds its clip only."""

    seen: int = 0
    mean: float = 0.0
    variance: float = 1.0

    def score(self, value: float) -> float:
        """How many standard deviations a value is off; the least deviation is 1."""
        return (value - self.mean) / sqrt(max(self.variance, 1.0))

    def learn(self, value: float) -> None:
        """Take a value in."""
        self.seen += 1
        weight = max(_MEMORY, 1 / self.seen)
        spread = sqrt(max(self.variance, 1.0)) * _CLIP
        off = value - self.mean
        if self.seen > WARM_UP // 3:
            off = min(max(off, -spread), spread)
        self.mean += weight * off
        if self.seen > 1:
            self.variance = (1 - weight) * (self.variance + weight * off * off)


class Alarm(msgspec.Struct, array_like=True, gc=False):
    """Says when something begins, and is silent until it was calm for a while."""

    is_on: bool = False
    calm: int = 0

    def take(self, *, is_beyond: bool, is_calm: bool, calm_needed: int) -> bool:
        """Tell whether something begins with this minute."""
        if self.is_on:
            self.calm = self.calm + 1 if is_calm else 0
            self.is_on = self.calm < calm_needed
            return False
        self.is_on, self.calm = is_beyond, 0
        return is_beyond


class Series(msgspec.Struct, array_like=True, gc=False):
    """The detectors of one producer's messages on one topic.

    Volume: the square root of the number of events, which has the same spread at any rate of a
    Poisson process, against its level; and the sum of what it is off by, less a half each minute,
    for small shifts that last. Mix: the chi-square distance of the types' counts from their
    usual shares, against its own level.
    """

    volume: Level = msgspec.field(default_factory=Level)
    volume_alarm: Alarm = msgspec.field(default_factory=Alarm)
    above: float = 0.0
    below: float = 0.0
    mix: Level = msgspec.field(default_factory=Level)
    mix_alarm: Alarm = msgspec.field(default_factory=Alarm)
    shares: dict[str, float] = {}

    def close(self, counts: dict[str, int], limits: Limits) -> list[Anomaly]:
        """Judge a minute by its events of each type, then learn from it."""
        n = sum(counts.values())
        return [*self._volume_of(n, limits), *self._mix_of(counts, n, limits)]

    def _volume_of(self, n: int, limits: Limits) -> list[Anomaly]:
        value = 2 * sqrt(n + 0.375)
        level = self.volume
        found: list[Anomaly] = []
        if level.seen >= WARM_UP:
            score = level.score(value)
            cut = min(max(score, -_CLIP), _CLIP)
            self.above = max(0.0, self.above + cut - 0.5)
            self.below = max(0.0, self.below - cut - 0.5)
            drift = max(self.above, self.below)
            beyond = abs(score) >= limits.volume or drift >= limits.sum_
            if beyond or self.volume_alarm.is_on:
                # While it lasts the level follows, and what it is off by is no news.
                self.above = self.below = 0.0
            expected = max((level.mean / 2) ** 2 - 0.375, 0.0)
            if self.volume_alarm.take(
                is_beyond=beyond, is_calm=abs(score) < _CALM, calm_needed=limits.calm
            ):
                found.append(Anomaly("volume", expected, n, score))
        level.learn(value)
        return found

    def _mix_of(self, counts: dict[str, int], n: int, limits: Limits) -> list[Anomaly]:
        if n < _LEAST_EVENTS:
            return []
        found: list[Anomaly] = []
        distance = self._distance(counts, n)
        if self.mix.seen >= WARM_UP:
            score = self.mix.score(distance)
            if self.mix_alarm.take(
                is_beyond=score >= limits.mix, is_calm=score < _CALM, calm_needed=limits.calm
            ):
                found.append(Anomaly("mix", self.mix.mean, distance, score))
        if self.mix.seen or self.shares:
            self.mix.learn(distance)
        weight = max(_MEMORY, 1 / (self.mix.seen + 1))
        for name in sorted({*self.shares, *counts}):
            if name in self.shares or len(self.shares) < _TYPES_MAX:
                old = self.shares.get(name, 0.0)
                self.shares[name] = old + weight * (counts.get(name, 0) / n - old)
        return found

    def _distance(self, counts: dict[str, int], n: int) -> float:
        total, names = 0.0, sorted({*self.shares, *counts})
        for name in names:
            usual = n * self.shares.get(name, 0.0)
            total += (counts.get(name, 0) - usual) ** 2 / (usual + 1)
        free = max(len(names) - 1, 1)
        return (total - free) / sqrt(2 * free)


def dump_series(series: dict[tuple[str, str], Series]) -> list[Any]:
    """A copy, for a snapshot."""
    return [[*key, msgspec.to_builtins(one)] for key, one in series.items()]


def load_series(dumped: list[Any]) -> dict[tuple[str, str], Series]:
    """Take back what `dump_series` gave."""
    return {(a, b): msgspec.convert(one, Series) for a, b, one in dumped}
