"""The commands of analysts on a running ClickHouse, as they are typed, in every form they print."""

from __future__ import annotations

import csv
import io
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
import structlog
from clickhouse_connect.driver.client import Client
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from connectors.clickhouse.client import ClickHouseAddress, connect
from flows.__main__ import main
from flows.process.queries import VIEWS
from flows.quality.command import EDGE_NAMES, NAMES, edges, scores
from flows.simulate import World
from tests.ingest_process import ROOT
from tests.integration.test_process import SMALL
from tests.integration.test_quality import write
from tests.process_logs import Log, fresh_database, write_log
from tests.quality_run import StrictRun
from tests.services import ClickHouseService
from tests.unit.flows.memory_run import END_MS
from tests.unit.flows.quality.openlineage import EVENT

pytestmark = pytest.mark.clickhouse

SPAN = ("--since", "2020-01-01", "--until", "2033-01-01")
DATABASE = "analyst_commands"


def in_the_past(log: Log) -> Log:
    """The same journeys some years earlier: what is stuck is so by the clock of the machine."""
    return {
        journey: [(at_ms - 200_000_000_000, act) for at_ms, act in told]
        for journey, told in log.items()
    }


@pytest.fixture(scope="module")
def filled(clickhouse_service: ClickHouseService) -> Iterator[str]:
    client = fresh_database(clickhouse_service.dsn, DATABASE)
    write(client, StrictRun(World(6, total=900, end_ms=END_MS, people=60)))
    client.command("TRUNCATE TABLE journeys")
    write_log(client, in_the_past(SMALL))
    yield clickhouse_service.dsn
    client.command("DROP DATABASE analyst_commands SYNC")
    client.close()


@pytest.fixture
def client(filled: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    monkeypatch.setenv("AIRSIDE_KAFKA__BOOTSTRAP_SERVERS", "-")
    monkeypatch.setenv("AIRSIDE_CLICKHOUSE__URL", filled)
    monkeypatch.setenv("AIRSIDE_CLICKHOUSE__DATABASE", DATABASE)
    monkeypatch.setenv("COLUMNS", "200")
    found = connect(ClickHouseAddress(filled, DATABASE))
    yield found
    found.close()
    structlog.reset_defaults()  # a command logs to the output that pytest takes away again


class Told:
    """What a command printed."""

    def __init__(self, capture: pytest.CaptureFixture[bytes]) -> None:
        self._capture = capture

    def by(self, *words: str, code: int = 0) -> bytes:
        assert code == main(list(words))
        return self._capture.readouterr().out

    def json(self, *words: str) -> Any:
        return orjson.loads(self.by(*words, "--format", "json"))

    def csv(self, *words: str) -> list[list[str]]:
        return list(csv.reader(io.StringIO(self.by(*words, "--format", "csv").decode())))


@pytest.fixture
def told(capfdbinary: pytest.CaptureFixture[bytes]) -> Told:
    return Told(capfdbinary)


def test_quality_prints_the_scoreboard_with_the_worst_first(client: Client, told: Told) -> None:
    lines = scores(client, 0, 2_000_000_000)

    named = told.json("quality", *SPAN)
    assert [dict(zip(NAMES, line, strict=True)) for line in lines] == named
    assert [list(NAMES), *([str(cell) for cell in line] for line in lines)] == told.csv(
        "quality", *SPAN
    )
    badness = [(one["error"], one["warn"], one["failed"] / max(one["checked"], 1)) for one in named]
    assert sorted(badness, reverse=True) == badness
    assert len(set(badness)) > 5
    table = told.by("quality", *SPAN).decode().splitlines()
    assert list(NAMES) == table[0].split()
    assert [[str(cell) for cell in line] for line in lines] == [row.split() for row in table[1:]]


def test_quality_says_when_there_is_nothing(client: Client, told: Told) -> None:
    assert b"no lines: nothing came in then\n" == told.by("quality", "--until", "2020-01-01")
    assert [] == told.json("quality", "--anomalies", "--until", "2020-01-01")


def test_unusual_minutes_are_printed(client: Client, told: Told) -> None:
    client.command(
        "INSERT INTO anomalies VALUES (1800000000, 'ntf.delivery.v1', '/senders/push', 'volume',"
        " 2, 60, 3, -7.25, 1)"
    )

    [line] = told.json("quality", "--anomalies", *SPAN)
    table = told.by("quality", "--anomalies", *SPAN).decode().splitlines()

    assert ("/senders/push", "volume", 60.0, 3.0, -7.25) == tuple(
        line[name] for name in ("producer", "kind", "expected", "observed", "score")
    )
    assert "2027-01-15 08:00 ntf.delivery.v1 /senders/push volume 60.0 3.0 -7.2" == " ".join(
        table[1].split()
    )


def test_lineage_is_shown_and_exported(client: Client, told: Told) -> None:
    found = edges(client)

    assert [list(EDGE_NAMES), *([a, b, str(known), str(n)] for a, b, known, n in found)] == (
        told.csv("lineage", "show")
    )
    table = told.by("lineage", "show").decode().splitlines()[1:]
    assert [[a, b, "yes" if known else "no", str(n)] for a, b, known, n in found] == [
        row.split() for row in table
    ]
    events = [orjson.loads(line) for line in told.by("lineage", "export").splitlines()]
    check = Draft202012Validator(EVENT)
    assert [] == [error.message for one in events for error in check.iter_errors(one)]
    assert 2 == sum("run" in one for one in events)


@pytest.mark.parametrize("view", VIEWS)
def test_each_view_of_the_process_is_printed_in_three_forms(
    client: Client, told: Told, view: str
) -> None:
    lines = told.json("process", view, *SPAN)

    assert lines
    assert all(tuple(line) == VIEWS[view].columns for line in lines)
    assert len(lines) + 1 == len(told.csv("process", view, *SPAN))
    table = told.by("process", view, *SPAN).decode()
    assert list(VIEWS[view].columns) == table.splitlines()[0].split()


def test_a_role_is_shown_no_small_group_by_any_command(client: Client, told: Told) -> None:
    """Each of the four journeys is a person's own: no line may be about them."""
    empty = b"no lines: nothing happened then, or the groups are too small to be shown\n"
    for view, known in VIEWS.items():
        words = ("process", view, *SPAN, "--role", "analyst")
        assert (b"" if known.single else empty) == told.by(*words, code=78 if known.single else 0)
    assert empty == told.by("query", "journeys", *SPAN, "--role", "analyst")
    assert empty == told.by("query", "sent", "--by", "campaign", *SPAN, "--role", "analyst")
    assert b"" == told.by("query", "events", *SPAN, "--role", "analyst", code=78)
    values = told.json("objectives", *SPAN, "--role", "analyst")
    assert {None} == set(values.values())
    assert 4 == told.json("query", "journeys", *SPAN)[0]["journeys"]
    assert 4 == told.json("query", "journeys", *SPAN, "--role", "finance")[0]["journeys"]


def test_a_person_who_is_not_known_makes_no_group_larger(client: Client, told: Told) -> None:
    client.command(
        "INSERT INTO journeys SELECT one.* REPLACE (concat('jrn-', toString(number)) AS journey,"
        " if(number < 9, concat('usr_', toString(number)), '') AS subject, 'nine' AS campaign)"
        " FROM (SELECT * FROM journeys WHERE journey = 'jrn-again-001') AS one"
        " CROSS JOIN numbers(12) AS twelve"
    )
    words = ("process", "dfg", *SPAN, "--campaign", "nine", "--role", "analyst")

    assert [] == told.json(*words)
    client.command(
        "INSERT INTO journeys SELECT * REPLACE ('jrn-tenth' AS journey, 'usr_ten' AS subject)"
        " FROM (SELECT * FROM journeys WHERE journey = 'jrn-1')"
    )
    assert told.json(*words)
    client.command(
        "ALTER TABLE journeys DELETE WHERE campaign = 'nine' SETTINGS mutations_sync = 1"
    )


@pytest.mark.parametrize(
    "words",
    [
        ("quality", "--since", "soon"),
        ("process", "dfg", "--limit", "0"),
        ("process", "dfg", "--role", "nobody"),
        ("query", "open_rat"),
    ],
)
def test_what_cannot_be_asked_is_one_line_and_a_code(
    client: Client, capfd: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    assert 78 == main(list(words))
    out, said = capfd.readouterr()
    assert "" == out
    assert said.startswith("airside: could not ")
    assert 1 == said.count("\n")


def test_who_reads_no_further_is_told_nothing() -> None:
    """`airside query --list | head`, where head has ended."""
    command = [sys.executable, "-m", "flows", "query", "--list"]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.close()
        said = child.stderr.read()
    assert (b"", 1) == (said, child.returncode)
