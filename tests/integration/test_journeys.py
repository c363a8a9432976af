"""Everything in one process on running servers: journeys and outcomes are the true ones.

A simulated world is sent; afterwards every journey, every outcome and every record that learners
read is compared with its truth.
"""

from __future__ import annotations

import time

import pytest

from flows.verify import Report, verify
from tests.ingest_process import IngestProcess
from tests.integration.test_ingest import Rig, assert_all_right, closing, embedded_rig, rig

__all__ = ["closing", "embedded_rig", "rig"]


class AllProcess(IngestProcess):
    """Starts `airside run all`."""

    flow = "all"


@pytest.fixture(autouse=True)
def _run_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Rig, "process", AllProcess)


def verified(rig: Rig) -> Report:
    return verify(
        rig.truth,
        rig.client,
        bootstrap_servers=rig.servers,
        journeys=rig.ingest.settings.journey,
    )


def test_journeys_are_true_and_outcomes_come_once_through_kills(
    rig: Rig,
) -> None:
    with rig.sending(rig.world(9_000), rate=1_500) as streaming:
        rig.ingest.start()
        assert streaming.wait(60)
        for pause_s in (1.2, 1.7):
            time.sleep(pause_s)
            rig.ingest.kill()
            rig.ingest.start()
    rig.wait()

    assert 0 == rig.ingest.stop()
    report = verified(rig)
    assert_all_right(report)
    assert 300 < report.journeys < report.outcomes


@pytest.mark.embedded_kafka
def test_journeys_are_true_on_the_embedded_stack(embedded_rig: Rig) -> None:
    embedded_rig.send(embedded_rig.world(5_000))
    embedded_rig.ingest.start()
    embedded_rig.wait()

    assert 0 == embedded_rig.ingest.stop()
    report = verified(embedded_rig)
    assert_all_right(report)
    assert 100 < report.journeys
