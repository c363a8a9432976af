"""The command as a whole, where nothing answers; and what its page says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import orjson
import pytest

from flows.__main__ import main
from flows.catalog import FLOWS
from flows.doctor.examine import NAMES, examine
from flows.doctor.finding import State
from flows.ingest import STEP_IDS, STREAMS, TABLES
from flows.run import MAKERS as RUN
from tests.messages import KEY

PAGE = Path(__file__).parents[4] / "docs" / "operate.md"
NOWHERE = "127.0.0.1:1"  # tcpmux: nobody has it


def test_settings_that_cannot_be_read_leave_only_the_software(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AIRSIDE_NONSENSE", "1")
    report = examine("ingest")

    assert list(NAMES) == [finding.name for finding in report.findings]
    assert {"python", "libraries", "time_zones"} == {
        finding.name for finding in report.findings if finding.state is State.OK
    }
    assert 1 == report.count(State.FAIL)
    assert not report.passed


@pytest.fixture
def nothing_answers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AIRSIDE_KAFKA__BOOTSTRAP_SERVERS", NOWHERE)
    monkeypatch.setenv("AIRSIDE_CLICKHOUSE__URL", f"http://{NOWHERE}")
    monkeypatch.setenv("AIRSIDE_QUARANTINE_KEY", KEY)
    monkeypatch.setenv("AIRSIDE_DATA", str(tmp_path))


@pytest.mark.usefixtures("nothing_answers")
def test_services_that_are_away_fail_once_each_and_exit_with_1(
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    assert 1 == main(["doctor", "--json"])
    found = orjson.loads(capfdbinary.readouterr().out)
    by_state: dict[str, list[Any]] = {}
    for check in found["checks"]:
        by_state.setdefault(check["state"], []).append(check)

    assert list(NAMES) == [check["name"] for check in found["checks"]]
    assert ["kafka", "clickhouse"] == [check["name"] for check in by_state["fail"]]
    assert all(NOWHERE in check["found"] and check["do"] for check in by_state["fail"])
    assert {"Kafka is not reached", "ClickHouse is not reached"} == {
        check["found"] for check in by_state["not_checked"]
    }
    assert KEY not in orjson.dumps(found).decode()


def test_what_is_looked_at_is_what_runs() -> None:
    assert set(RUN) == set(FLOWS)
    assert (TABLES, STREAMS, STEP_IDS) == FLOWS["ingest"]


def test_the_page_has_a_line_for_every_check() -> None:
    section = PAGE.read_text(encoding="utf-8").partition("## Before you start")[2]
    lines = re.findall(r"^\| `(\w+)` \|", section.partition("\n## ")[0], re.MULTILINE)

    assert list(NAMES) == lines
