"""The demo's edges: what it tells another terminal, and what it sends."""

from __future__ import annotations

import io
import signal
from typing import Any

import pytest
from rich.console import Console

from flows import demo
from flows.verify import Report
from schemas.errors import TransientError


class Stack:
    """A stack that dies as soon as somebody looks after it."""

    bootstrap_servers = "127.0.0.1:9"
    clickhouse_url = "http://127.0.0.1:8"

    def check(self) -> None:
        raise TransientError(do="keep", kind="stack")


def test_a_stack_that_is_kept_is_offered_with_the_delivery_that_it_can_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without that line `airside run` would claim exactly-once where nothing can keep it."""
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    printed = io.StringIO()
    stack: Any = Stack()

    with pytest.raises(TransientError):
        demo._keep(stack, Console(file=printed))
    assert [
        "export AIRSIDE_KAFKA__BOOTSTRAP_SERVERS=127.0.0.1:9",
        "export AIRSIDE_CLICKHOUSE__URL=http://127.0.0.1:8",
        "export AIRSIDE_KAFKA__DELIVERY=at_least_once",
    ] == printed.getvalue().splitlines()[-3:]


def test_the_machine_readable_report_keeps_its_keys() -> None:
    report = Report(
        produced=3,
        doors={"routed": 2, "late": 1},
        codes={"T601": 1},
        facts=2,
        rollup_total=2,
        journeys=7,
        outcomes=9,
        republished=0,
        mismatches=0,
        sentences=(),
    )
    told = demo._as_json(demo.Outcome(report, 1.5, {"p50": 20.0, "p99": 40.0}, 3_000_000))

    assert {
        "produced": 3,
        "doors": {"routed": 2, "late": 1},
        "codes": {"T601": 1},
        "facts": 2,
        "rollup_total": 2,
        "journeys": 7,
        "outcomes": 9,
        "mismatches": 0,
        "republished": 0,
        "events_per_s": 2.0,
        "latency_ms": {"p50": 20.0, "p99": 40.0},
        "peak_rss_mb": 3.0,
    } == told
