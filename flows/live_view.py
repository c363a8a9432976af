"""Show a running dataflow on a terminal: doors, rates, lag, event time, rows, from its metrics."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, NamedTuple
from urllib.error import URLError
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families
from rich.console import Group
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table

from schemas.codes import Door

_TIMEOUT_S: Final = 2.0


class Reading(NamedTuple):
    """One look at a worker's metrics. Units: event time in seconds since 1970; bytes."""

    doors: Counter[str]
    rows: Counter[str]
    lag: int
    watermark_s: float | None
    peak_bytes: int


def read_metrics(port: int) -> Reading | None:
    """Read a worker's metrics on loopback; None while it does not answer."""
    try:
        with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=_TIMEOUT_S) as answer:
            text = answer.read().decode()
    except (URLError, OSError):
        return None
    doors: Counter[str] = Counter()
    rows: Counter[str] = Counter()
    watermarks: list[float] = []
    lag, peak = 0.0, 0.0
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == "airside_messages_total":
                doors[sample.labels["door"]] += int(sample.value)
            elif sample.name == "airside_rows_written_total":
                rows[sample.labels["table"]] += int(sample.value)
            elif sample.name == "airside_lane_lag_messages":
                lag += sample.value
            elif sample.name == "airside_lane_watermark_seconds":
                watermarks.append(sample.value)
            elif sample.name == "airside_peak_memory_bytes":
                peak = sample.value
    return Reading(doors, rows, int(lag), min(watermarks, default=None), int(peak))


class LiveView:
    """Draws readings; keeps the one before, to tell rates."""

    def __init__(self, *, total: int, steady_s: Callable[[], float] = time.monotonic) -> None:
        self._total = total
        self._steady_s = steady_s
        self._before: tuple[float, Counter[str]] | None = None
        self.last: Reading | None = None

    def draw(self, reading: Reading | None, *, sent: int) -> Panel:
        """The picture for one moment; the last reading stays while the worker does not answer."""
        reading = reading or self.last
        now_s = self._steady_s()
        doors = Table("door", "messages", "a second", box=None, expand=True)
        counts = reading.doors if reading else Counter()
        for door in Door:
            doors.add_row(
                door.value, f"{counts[door.value]:,}", f"{self._rate(door, counts, now_s):,.0f}"
            )
        self._before = (now_s, counts)
        self.last = reading
        facts = Table("what", "now", box=None, expand=True)
        if reading:
            facts.add_row("lag, messages", f"{reading.lag:,}")
            facts.add_row("event time reached", _clock(reading.watermark_s))
            for table, count in sorted(reading.rows.items()):
                facts.add_row(f"rows of {table}", f"{count:,}")
            facts.add_row("peak memory, MB", f"{reading.peak_bytes / 1e6:,.0f}")
        side = Table.grid(expand=True, padding=(0, 4))
        side.add_row(doors, facts)
        bar = ProgressBar(total=self._total, completed=sent)
        return Panel(Group(f"sent {sent:,} of {self._total:,}", bar, "", side), title="airside")

    def line(self, reading: Reading | None, *, sent: int) -> str:
        """The same in one line, for an output that is no terminal."""
        counts = reading.doors if reading else Counter()
        parts = ", ".join(f"{door.value} {counts[door.value]:,}" for door in Door)
        lag = reading.lag if reading else 0
        return f"sent {sent:,} of {self._total:,}; {parts}; lag {lag:,}"

    def _rate(self, door: Door, counts: Counter[str], now_s: float) -> float:
        if self._before is None or now_s <= self._before[0]:
            return 0.0
        before_s, before = self._before
        return (counts[door.value] - before[door.value]) / (now_s - before_s)


def _clock(at_s: float | None) -> str:
    return "-" if at_s is None else f"{datetime.fromtimestamp(at_s, UTC):%Y-%m-%d %H:%M:%S}Z"
