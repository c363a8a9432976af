"""Compare the books with the rows that they promise: by topic, partition, run and door."""

from __future__ import annotations

from typing import Final

from flows.reconcile import queries
from flows.reconcile.findings import BookFinding, Report, State
from flows.reconcile.store import Order, Store
from flows.steps.count_fates import RUN

LINES_MAX: Final = 100_000


def compare_books(store: Store, order: Order, report: Report) -> None:
    """Compare every line whose rows cannot have expired; nothing is repaired.

    Shapes: the newest run of a partition is open. A routed message whose row was replaced by a
    repeat is explained as long as ClickHouse has not merged the two.
    """
    parameters = {"run": RUN, "since_s": order.since_s, "differences_max": LINES_MAX}
    [(compared, differing, found)] = store.read(queries.BOOKS, parameters, name="fates")
    report.books.compared += compared
    report.complete &= differing == len(found)
    for *line, newest in found:
        topic, part, run, door, code, booked, with_row, held = line
        state = _state(booked=booked, found=with_row, newest=bool(newest))
        if newest and order.closed_only:
            continue
        report.books.count(state)
        report.show(BookFinding(topic, part, run, door, code, booked, with_row, held, state=state))


def _state(*, booked: int, found: int, newest: bool) -> State:
    if booked == found:
        return State.EXPLAINED
    return State.OPEN if newest else State.CLOSED
