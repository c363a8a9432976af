"""The sink of tables behind a flow, as the settings make it."""

from __future__ import annotations

from pathlib import Path

import pytest

from connectors.clickhouse.behind import BehindSink
from flows import everything
from flows.cells import Cell
from flows.run import Process, make_behind_sink
from flows.sinks import topics_of
from flows.stop import Stop
from flows.timing import TIMING
from flows.timing.record import DECISION_TOPIC
from tests.messages import settings


class Answering:
    """A ClickHouse that is there."""

    def close(self) -> None:
        pass


def sink_behind(monkeypatch: pytest.MonkeyPatch, folder: Path, delivery: str) -> BehindSink:
    monkeypatch.setattr("flows.run.connect", lambda _address: Answering())
    told = settings(
        data=folder,
        epoch_s=5.0,
        kafka={
            "bootstrap_servers": "-",
            "delivery": delivery,
            "transaction_s_max": 700.0,
        },
    )
    sink = make_behind_sink(told, Process(Cell(), Stop()), "all")
    assert isinstance(sink, BehindSink)
    return sink


@pytest.mark.parametrize(
    ("delivery", "seconds"), [("exactly_once", 690.0), ("at_least_once", float("inf"))]
)
def test_waits_of_an_epoch_and_two_epochs_fit_into_its_transaction(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, delivery: str, seconds: float
) -> None:
    assert seconds == sink_behind(monkeypatch, tmp_path, delivery).wait_s_max


def test_receipts_lie_beside_the_stores_and_go_with_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    receipts = sink_behind(monkeypatch, tmp_path, "exactly_once").receipts
    assert receipts is not None
    receipts.write(3, b"rows")

    assert receipts.has(3, b"rows")
    assert (tmp_path / "recovery" / "all" / "confirmed" / "003.confirmed").exists()


def test_what_leaves_before_its_epoch_ends_shows_no_commit() -> None:
    """A decision that is there tells nothing of the transaction of its epoch."""
    for flow_id in (everything.FLOW_ID, TIMING):
        assert DECISION_TOPIC not in topics_of(flow_id)
    assert "ntf.routed.open.v1" in topics_of(everything.FLOW_ID)
