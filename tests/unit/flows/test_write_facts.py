"""The columns of a fact that no other comparison holds: its history and its last day."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tests.messages import NOW_MS, Bench, delivered, rows_of


def test_a_fact_tells_the_gates_that_its_event_passed() -> None:
    [fact] = rows_of(
        Bench().pass_(delivered(datahops="in.c1.0>va.e1.2>en.e1.5p>ro.e1.1A")), "facts"
    )

    expected = [
        ("in", "c1", 0, ""),
        ("va", "e1", 2, ""),
        ("en", "e1", 5, "p"),
        ("ro", "e1", 46, ""),
    ]
    assert expected == [tuple(hop) for hop in fact["hops"]]


def test_a_fact_without_a_history_tells_none() -> None:
    [fact] = rows_of(Bench().pass_(delivered()), "facts")

    assert [] == fact["hops"]


@pytest.mark.parametrize(
    ("classes", "purpose", "days"),
    [("GDPR,PII", "order_update", 90), ("PII", "ops_monitoring", 14), ("PCI", "payment", 7)],
)
def test_a_fact_may_go_on_the_day_after_its_retention(
    classes: str, purpose: str, days: int
) -> None:
    message = delivered(1, dataclassification=classes, datapurpose=purpose)
    [fact] = rows_of(Bench().pass_(message._replace(recorded_ms=NOW_MS)), "facts")

    recorded = datetime.fromtimestamp(NOW_MS / 1_000, UTC).date()
    first_day = datetime(1970, 1, 1, tzinfo=UTC).date() + timedelta(days=int(fact["expires_at"]))
    assert recorded + timedelta(days=days + 1) == first_day
