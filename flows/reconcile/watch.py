"""The command `airside reconcile`: one run, or one each interval until SIGTERM or SIGINT."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable

from rich.console import Console

from connectors.clickhouse.client import connect
from connectors.clock import Clock, SystemClock
from flows.ingest import read_policy
from flows.journey.make import rules_of
from flows.reconcile.findings import Report
from flows.reconcile.job import Bounds, ClickHouseStore, Wish, reconcile
from flows.reconcile.words import to_json, to_tables
from flows.settings import Settings


def bounds_of(settings: Settings) -> Bounds:
    """What the settings and their policy say of lanes and times."""
    return Bounds(
        lanes=settings.lanes,
        lateness_s_max=settings.time.lateness_s_max,
        skew_s_max=settings.time.skew_s_max,
        retention_s=read_policy(settings).shortest_retention_s(),
        journeys=rules_of(settings),
    )


def run_reconcile(
    settings: Settings,
    wish: Wish,
    *,
    watch_s: float | None,
    as_json: bool,
    console: Console,
    clock: Clock | None = None,
) -> int:
    """Reconcile and tell what was found.

    Shapes: 0 when nothing is left that differs, 1 when something is; a watch that was asked to
    stop ends with 0.
    """
    bounds = bounds_of(settings)
    clock = clock or SystemClock()
    client = connect(settings.clickhouse_address)
    store = ClickHouseStore(client, retry_s_max=settings.clickhouse.retry_s_max)

    def run_once(stopped: Callable[[], bool]) -> Report:
        report = reconcile(store, wish, bounds, now_ms=clock.now_ms(), stopped=stopped)
        if as_json:
            console.print(to_json(report), markup=False, soft_wrap=True)
        else:
            console.print(to_tables(report))
        return report

    try:
        if watch_s is None:
            return 0 if run_once(lambda: False).is_well else 1
        done = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: done.set())
        while not done.is_set():
            run_once(done.is_set)
            done.wait(watch_s)
    finally:
        client.close()
    return 0
