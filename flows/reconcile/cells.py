"""Compare the rollup cells with the facts, and write closed ones anew where they differ.

A fact belongs to the lane of the offset it holds; so a repeat that came through another lane
moves its event there, and the lanes of a cell add up to the facts whatever came twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from flows.reconcile import queries
from flows.reconcile.findings import Cell, CellFinding, HourFinding, Report, State
from flows.reconcile.store import Order, Store
from flows.steps.roll_up import GENERATION_BITS
from schemas.blocks import Rows

HOURS_MAX: Final = 10_000
"""Hours of event time in one run; later ones wait for the next."""

CHUNK_ROWS: Final = 500_000
CHUNK_HOURS: Final = 48
DIFFERENCES_MAX: Final = 100_000
"""Differing cells in one hour of event time; more are left to the next run."""

LOSS_EVENTS_MAX: Final = 1_000
LOSS_SHARE_MAX: Final = 0.1
"""What a repair may take away from the rollups of one chunk unasked: beyond both, it is more
likely that facts are missing than that so much came twice."""

_HOUR_S: Final = 3_600

Span = tuple[int, int]


def spans_of(hours: list[tuple[int, int]]) -> Iterator[Span]:
    """Join hours into spans to compare at once.

    Shapes: (hour, rows) in, (from, until) out, in seconds since 1970; an hour with more rows
    than a span may have is a span of its own.

    >>> list(spans_of([(0, 9), (3_600, 500_000), (7_200, 1)]))
    [(0, 3600), (3600, 7200), (7200, 10800)]
    """
    start, rows, last = 0, 0, -1
    for hour_s, size in hours:
        far = hour_s + _HOUR_S - start > CHUNK_HOURS * _HOUR_S
        if last >= 0 and (far or rows + size > CHUNK_ROWS):
            yield start, last + _HOUR_S
            last = -1
        if last < 0:
            start, rows = hour_s, 0
        last, rows = hour_s, rows + size
    if last >= 0:
        yield start, last + _HOUR_S


def find_spans(store: Store, order: Order, report: Report) -> list[Span]:
    """The spans of event time that have a cell with a recent record."""
    found = store.read(
        queries.HOURS,
        {"since_s": order.since_s, "hours_max": HOURS_MAX + 1},
        name="hours to compare",
    )
    hours = [(int(hour_s), int(rows)) for hour_s, rows in found]
    if len(hours) > HOURS_MAX:
        report.complete = False
        hours = hours[:HOURS_MAX]
    return list(spans_of(hours))


def compare_cells(store: Store, order: Order, span: Span, report: Report) -> None:
    """Compare one span's cells; repair the closed ones if asked.

    Delivery: safe to repeat and to interrupt: a repair is an absolute value in a generation
    above all that the table holds.
    """
    parameters = {
        "lanes": order.lanes,
        "from_s": span[0],
        "until_s": span[1],
        "since_s": order.since_s,
        "differences_max": DIFFERENCES_MAX,
    }
    lines = store.read(queries.CELLS, parameters, name="rollup_1m_lanes")
    cells: list[Cell] = []
    rollup_n = 0
    for _hour_s, compared, differing, events, found in lines:
        report.minutes.compared += compared
        rollup_n += events
        report.complete &= differing == len(found)
        cells += msgspec.convert(found, list[Cell])
    states = list(judge(cells, rollup_n, order))
    chosen = [cell for cell, state in zip(cells, states, strict=True) if state is State.REPAIRED]
    if chosen:
        store.write(repair_rows(chosen))
    for cell, state in zip(cells, states, strict=True):
        if state is State.OPEN and order.closed_only:
            continue
        report.minutes.count(state)
        report.show(_finding(cell, state))


def judge(cells: list[Cell], rollup_n: int, order: Order) -> Iterator[State]:
    """Say of each differing cell what is to become of it.

    Shapes: `rollup_n` counts the events of all cells that were compared along with these.
    """
    lost_n = sum(
        cell.rollup_n - cell.facts_n
        for cell in cells
        if order.is_closed(cell.lane, cell.minute_s, cell.newest_s) and cell.facts_n < cell.rollup_n
    )
    too_many = lost_n > max(LOSS_EVENTS_MAX, LOSS_SHARE_MAX * rollup_n) and not order.any_loss
    for cell in cells:
        if not order.is_closed(cell.lane, cell.minute_s, cell.newest_s):
            yield State.OPEN
        elif cell.facts_n < cell.rollup_n and cell.minute_s < order.kept_since_s:
            # Its first records may be older than a retention, whatever the newest one is.
            yield State.EXPIRED
        elif cell.facts_n < cell.rollup_n and too_many:
            yield State.LOSS
        else:
            yield State.REPAIRED if order.repair else State.CLOSED


def repair_rows(cells: list[Cell]) -> Rows:
    """What the facts say of these cells, as rows that win over all that the table holds."""
    columns: dict[str, Any] = {
        "w": [cell.minute_s * 1_000 for cell in cells],
        "event_type": [cell.event_type for cell in cells],
        "campaign": [cell.campaign for cell in cells],
        "channel": [cell.channel for cell in cells],
        "class": [cell.classes for cell in cells],
        "currency": [cell.currency for cell in cells],
        "arm": [cell.arm for cell in cells],
        "lane": [cell.lane for cell in cells],
        "late": [cell.late for cell in cells],
        "n": [cell.facts_n for cell in cells],
        "amount_minor": [cell.facts_amount for cell in cells],
        "latency_hist": [cell.facts_hist for cell in cells],
        # Not older than the row it replaces, so that it does not expire before that one.
        "recorded_at": [cell.newest_s * 1_000 for cell in cells],
        "ver": [
            (((cell.version >> GENERATION_BITS) + 1) << GENERATION_BITS) + cell.facts_n
            for cell in cells
        ],
    }
    return Rows("rollup_1m_lanes", len(cells), columns)


def compare_hours(store: Store, order: Order, span: Span, report: Report) -> None:
    """Compare one span's closed hours as analysts read them; nothing is repaired here.

    Shapes: only hours that began within the bound, since facts of earlier ones may be gone.
    """
    lines = store.read(
        queries.HOURS_AS_READ, {"from_s": span[0], "until_s": span[1]}, name="rollup_1m"
    )
    hours: dict[int, list[tuple[int, int, int, int]]] = {}
    for hour_s, _currency, *sums in lines:
        closed = order.closed_until_s >= hour_s + _HOUR_S
        if closed and hour_s >= order.since_s:
            hours.setdefault(hour_s, []).append((sums[0], sums[1], sums[2], sums[3]))
    for hour_s, sums_by_currency in hours.items():
        report.hours.compared += 1
        facts_n, rollup_n, _, _ = map(sum, zip(*sums_by_currency, strict=True))
        if any((one[0], one[2]) != (one[1], one[3]) for one in sums_by_currency):
            report.hours.count(State.CLOSED)
            amounts = any(one[2] != one[3] for one in sums_by_currency)
            report.show(HourFinding(hour_s, facts_n, rollup_n, amounts))


def _finding(cell: Cell, state: State) -> CellFinding:
    return CellFinding(
        minute_s=cell.minute_s,
        event_type=cell.event_type,
        classes=cell.classes,
        lane=cell.lane,
        what=cell.what,
        facts_n=cell.facts_n,
        rollup_n=cell.rollup_n,
        state=state,
    )
