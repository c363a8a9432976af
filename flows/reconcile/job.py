"""Run reconciliation: once, or again and again until told to stop."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
from clickhouse_connect.driver.client import Client

from connectors.clickhouse.reader import read_rows
from connectors.clickhouse.writer import TableWriter
from flows.journey.rules import JourneyRules
from flows.reconcile import queries
from flows.reconcile.books import compare_books
from flows.reconcile.cells import compare_cells, compare_hours, find_spans
from flows.reconcile.findings import Report
from flows.reconcile.journeys import compare_journeys
from flows.reconcile.store import Order, Store
from schemas.blocks import Rows
from schemas.errors import ConfigError

QUARANTINE_DAYS: Final = 30
"""How long rows of `quarantine` live: shorter than those of `rollup_1m_lanes`."""

_DAY_S: Final = 86_400


class Wish(msgspec.Struct, frozen=True):
    """What a person asks for. Units: seconds; `since_s` None takes the usual span."""

    since_s: int | None = None
    repair: bool = False
    closed_only: bool = False
    any_loss: bool = False


class Bounds(msgspec.Struct, frozen=True):
    """What the settings and the policy say. Units: seconds."""

    lanes: int
    lateness_s_max: float
    skew_s_max: float
    retention_s: int
    journeys: JourneyRules


class ClickHouseStore:
    """The tables of one database, with bounded retries."""

    def __init__(self, client: Client, *, retry_s_max: float) -> None:
        self._client = client
        self._writer = TableWriter(client, retry_s_max=retry_s_max)

    def read(
        self, query: str, parameters: Mapping[str, Any], *, name: str
    ) -> list[tuple[Any, ...]]:
        """The rows of a query; `name` says in errors what they are."""
        return read_rows(self._client, query, parameters, name=name)

    def write(self, rows: Rows) -> None:
        """Write rows; returns when ClickHouse confirmed them."""
        self._writer.add(rows)
        self._writer.flush()


def span_to_compare_s(wish: Wish, bounds: Bounds) -> int:
    """How far back records may lie: a day more than late corrections reach, if not asked else.

    Errors: ConfigError for more than the shortest time that anything is kept: facts that have
    expired would look like facts that are missing.
    """
    most_s = min(bounds.retention_s, QUARANTINE_DAYS * _DAY_S)
    if wish.since_s is None:
        return min(int(bounds.lateness_s_max) + _DAY_S, most_s)
    if wish.since_s > most_s:
        raise ConfigError(
            do="compare",
            kind="records",
            where=f"of the last {wish.since_s / _DAY_S:g} days",
            found=f"that some of them are kept for {most_s / _DAY_S:g} days only",
            expected="no longer span: expired facts would look like missing ones",
            hint="give a shorter --since",
        )
    return wish.since_s


def make_order(store: Store, wish: Wish, bounds: Bounds, *, now_ms: int) -> Order:
    """What to do now. The floors are read first: what they close was durable before.

    Errors: ConfigError when the books were kept with another number of lanes.
    """
    now_s = now_ms // 1_000
    floors = {int(lane): int(at) for lane, at in store.read(queries.FLOORS, {}, name="floors")}
    lanes = store.read(queries.LANES, {"lanes": bounds.lanes}, name="fates")
    if any(wrong for _, wrong in lanes):
        raise ConfigError(
            do="assign",
            kind="facts",
            where="to lanes",
            found="books that were kept with another number of lanes",
            expected="the number of the worker",
            hint="set AIRSIDE_LANES as it is there",
        )
    return Order(
        lanes=bounds.lanes,
        now_s=now_s,
        since_s=now_s - span_to_compare_s(wish, bounds),
        kept_since_s=now_s - bounds.retention_s + int(bounds.skew_s_max),
        floors_s=floors,
        closed_until_s=min((floors.get(int(lane), 0) for lane, _ in lanes), default=0),
        repair=wish.repair,
        closed_only=wish.closed_only,
        any_loss=wish.any_loss,
    )


def reconcile(
    store: Store,
    wish: Wish,
    bounds: Bounds,
    *,
    now_ms: int,
    stopped: Callable[[], bool] = lambda: False,
) -> Report:
    """Compare everything once, repair what may be repaired, and note the outcome in a table.

    Delivery: safe to repeat, to interrupt and to run beside the worker. A run that was told to
    stop is not complete, and is not noted.
    """
    order = make_order(store, wish, bounds, now_ms=now_ms)
    report = Report(at_ms=now_ms, since_s=order.since_s)
    for span in find_spans(store, order, report):
        if stopped():
            report.complete = False
            return report
        compare_cells(store, order, span, report)
        compare_hours(store, order, span, report)
    compare_books(store, order, report)
    compare_journeys(store, order, bounds.journeys, report, stopped=stopped)
    if not report.complete and stopped():
        return report
    store.write(_outcome_rows(report))
    return report


def _outcome_rows(report: Report) -> Rows:
    scopes = report.scopes
    columns: dict[str, Any] = {
        "at": [report.at_ms] * len(scopes),
        "scope": [scope.name for scope in scopes],
        "compared": [scope.compared for scope in scopes],
        "differing": [scope.differing for scope in scopes],
        "repaired": [scope.repaired for scope in scopes],
        "open": [scope.open for scope in scopes],
        "remaining": [scope.remaining for scope in scopes],
    }
    return Rows("reconciliations", len(scopes), columns)
