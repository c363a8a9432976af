"""The sink of tables behind a flow, as the settings make it."""

from __future__ import annotations

from pathlib import Path

import pytest

from connectors.clickhouse.behind import BehindSink
from flows import everything
from flows.cells import Cell
from flows.run import Process, make_behind_sink, make_source
from flows.sinks import topics_of
from flows.stop import Stop
from flows.timing import TIMING
from flows.timing.record import DECISION_TOPIC
from tests.messages import settings


class Answering:
    """A ClickHouse that is there."""

    def close(self) -> None:
        pass


def sink_behind(
    monkeypatch: pytest.MonkeyPatch, folder: Path, delivery: str, *, epoch_s: float = 5.0
) -> BehindSink:
    monkeypatch.setattr("flows.run.connect", lambda _address: Answering())
    told = settings(
        data=folder,
        epoch_s=epoch_s,
        kafka={
            "bootstrap_servers": "-",
            "delivery": delivery,
            "transaction_s_max": 700.0,
        },
    )
    process = Process(Cell(), Stop())
    source = make_source(told, process, "all", tables=(), streams=("t",))
    sink = make_behind_sink(told, process, "all", source)
    assert sink.before_early == source.sync_notes
    assert isinstance(sink, BehindSink)
    return sink


@pytest.mark.parametrize(
    ("delivery", "seconds"), [("exactly_once", 690.0), ("at_least_once", float("inf"))]
)
def test_waits_of_an_epoch_and_two_epochs_fit_into_its_transaction(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, delivery: str, seconds: float
) -> None:
    assert seconds == sink_behind(monkeypatch, tmp_path, delivery).wait_s_max


@pytest.mark.parametrize(("epoch_s", "early_s"), [(5.0, 4.0), (0.5, float("inf"))])
def test_rows_go_out_before_the_end_of_an_epoch_that_is_not_short(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, epoch_s: float, early_s: float
) -> None:
    sink = sink_behind(monkeypatch, tmp_path, "exactly_once", epoch_s=epoch_s)

    assert early_s == sink.early_s


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
