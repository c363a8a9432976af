"""The books against stored rows, the bounds of a comparison, and the command as it is called."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest
import structlog
from clickhouse_connect.driver.client import Client
from rich.console import Console

from connectors.clickhouse.client import ClickHouseAddress, connect
from connectors.clickhouse.reader import read_rows
from connectors.clickhouse.writer import TableWriter
from connectors.clock import ManualClock
from connectors.embedded.clickhouse import EmbeddedClickHouse
from flows.__main__ import main
from flows.reconcile.findings import Report, State
from flows.reconcile.job import ClickHouseStore, Wish, reconcile, span_to_compare_s
from flows.reconcile.watch import run_reconcile
from flows.settings import Settings, read_settings
from schemas.blocks import Rows
from schemas.errors import ConfigError, TransientError
from tests.messages import CANARY, DELIVERY, NOW_MS, delivered, with_body, with_header
from tests.reconcile_world import (
    BOUNDS,
    DAY_S,
    DELIVERIES,
    OLD_MS,
    REPAIR,
    Worker,
    busy_worker,
    damage,
    old,
    open_tables,
    run,
)
from tests.services import ClickHouseService


@pytest.fixture
def client(clickhouse_tables: ClickHouseAddress) -> Iterator[Client]:
    opened = connect(clickhouse_tables)
    yield opened
    opened.close()


def book(client: Client, *, part: int, run_at: int, n: int, door: str = "routed") -> None:
    """Enter a line into the books, of the lane that the part belongs to."""
    columns = {
        "topic": [DELIVERY],
        "part": [part],
        "run": [run_at],
        "door": [door],
        "code": ["" if door == "routed" else "T303"],
        "source": ["/a"],
        "lane": [part % 2],
        "n": [n],
        "ver": [n],
    }
    writer = TableWriter(client)
    writer.add(Rows("fates", 1, columns))
    writer.flush()


def lines(report: Report) -> list[tuple[Any, ...]]:
    return [
        (line.topic, line.part, line.run, line.door, line.booked, line.found, line.held, line.state)
        for line in report.book_findings
    ]


def test_books_and_rows_agree_over_all_doors(client: Client) -> None:
    worker = busy_worker(client)
    worker.take(old(1)._replace(value=b"{"), delivered(1, dataclassification="SECRET"), old(99))
    worker.take(with_header(delivered(901), "ce_id", b"evt-now-0-901"))
    report = run(client, Wish())

    assert {"routed", "quarantined", "late", "dropped"} == {
        row[0] for row in client.query("SELECT DISTINCT door FROM fates").result_rows
    }
    assert report.is_well
    assert 8 == report.books.compared


@pytest.mark.parametrize("table", ["facts", "quarantine"])
def test_a_lost_row_is_told_by_partition_run_and_door(table: str, client: Client) -> None:
    worker = Worker(client)
    broken = delivered(3)._replace(value=b"{")
    worker.take(delivered(1), delivered(2), broken, broken)
    book(client, part=0, run_at=1, n=0)
    client.command(f"DELETE FROM {table} WHERE off IN (1, 3)")

    door = "routed" if table == "facts" else "quarantined"
    report = run(client, Wish())
    assert [(DELIVERY, 0, 0, door, 2, 1, 1, State.CLOSED)] == lines(report)
    assert (1, 0, 1) == (report.books.differing, report.books.open, report.books.remaining)
    assert not report.is_well


def test_a_row_that_the_books_do_not_know_is_told(client: Client) -> None:
    Worker(client).take(delivered(1), delivered(2))
    client.command(
        "INSERT INTO facts SELECT * REPLACE (off + 10000 AS off, 'evt-x' AS event_id)"
        " FROM (SELECT * FROM facts WHERE off = 1)"
    )
    book(client, part=0, run_at=2, n=0)

    assert [(DELIVERY, 0, 1, "routed", 0, 1, 1, State.CLOSED)] == lines(run(client, Wish()))


def test_the_newest_run_is_open_and_left_out_when_asked(client: Client) -> None:
    Worker(client).take(delivered(1), delivered(2))
    client.command("DELETE FROM facts WHERE off = 0")
    client.command("TRUNCATE TABLE rollup_1m_lanes")

    assert [State.OPEN] == [line[-1] for line in lines(run(client, Wish()))]
    assert run(client, Wish(closed_only=True)).is_well


def test_a_repeat_explains_the_fact_that_it_replaced(client: Client) -> None:
    client.command("SYSTEM STOP MERGES facts")
    worker = Worker(client)
    worker.take(old(1))
    for step in (2, 4):
        worker.take(delivered(50 + step, at_ms=OLD_MS + step * 3_600_000))
    worker.take(old(1))
    worker.close_the_past()
    book(client, part=0, run_at=1, n=0)

    report = run(client)
    assert [("routed", 7, 7, 6, State.EXPLAINED)] == [line[3:] for line in lines(report)]
    assert (1, 0) == (report.books.explained, report.books.remaining)
    assert report.is_well

    client.command("SYSTEM START MERGES facts")
    client.command("OPTIMIZE TABLE facts FINAL")
    assert [("routed", 7, 6, 6, State.CLOSED)] == [line[3:] for line in lines(run(client))]


def test_runs_with_rows_older_than_asked_are_not_judged(client: Client) -> None:
    worker = Worker(client)
    worker.take(*(old(number) for number in range(1, 4)), delivered(4))
    client.command("DELETE FROM facts WHERE off = 1")
    book(client, part=0, run_at=1, n=0)

    assert 1 == len(lines(run(client, Wish())))
    assert [] == lines(run(client, Wish(since_s=29 * 3_600)))


def test_the_span_reaches_a_day_behind_late_corrections() -> None:
    assert 2 * DAY_S == span_to_compare_s(Wish(), BOUNDS)
    late = msgspec.structs.replace(BOUNDS, lateness_s_max=20 * DAY_S)
    assert 7 * DAY_S == span_to_compare_s(Wish(), late)


def test_a_span_beyond_the_shortest_retention_is_refused_with_the_reason() -> None:
    assert 7 * DAY_S == span_to_compare_s(Wish(since_s=7 * DAY_S), BOUNDS)
    with pytest.raises(ConfigError, match=r"7 days only; expected .* expired facts would look"):
        span_to_compare_s(Wish(since_s=7 * DAY_S + 1), BOUNDS)
    forever = msgspec.structs.replace(BOUNDS, retention_s=365 * DAY_S)
    with pytest.raises(ConfigError, match="30 days only"):
        span_to_compare_s(Wish(since_s=31 * DAY_S), forever)


def test_a_run_that_is_told_to_stop_is_not_complete_and_not_noted(client: Client) -> None:
    busy_worker(client)
    store = ClickHouseStore(client, retry_s_max=10.0)
    report = reconcile(store, REPAIR, BOUNDS, now_ms=NOW_MS, stopped=lambda: True)

    assert not report.complete
    assert not report.is_well
    assert 0 == client.query("SELECT count() FROM reconciliations").result_rows[0][0]


OUTCOMES = """SELECT scope, compared, differing, repaired, open, remaining
FROM reconciliations FINAL WHERE at = (SELECT max(at) FROM reconciliations) ORDER BY scope"""


@pytest.fixture
def environment(
    client: Client,
    clickhouse_service: ClickHouseService,
    clickhouse_tables: ClickHouseAddress,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[None]:
    monkeypatch.setenv("AIRSIDE_KAFKA__BOOTSTRAP_SERVERS", "-")
    monkeypatch.setenv("AIRSIDE_CLICKHOUSE__URL", clickhouse_service.dsn)
    monkeypatch.setenv("AIRSIDE_CLICKHOUSE__DATABASE", clickhouse_tables.database)
    monkeypatch.setenv("AIRSIDE_LANES", "2")
    monkeypatch.setenv("COLUMNS", "200")
    yield
    structlog.reset_defaults()  # the command logs to the output that pytest takes away again


def test_the_command_tells_repairs_notes_and_ends_with_a_code(
    client: Client, environment: None, capsys: pytest.CaptureFixture[str]
) -> None:
    busy_worker(client)
    assert 0 == main(["reconcile"])
    assert "all is well" in capsys.readouterr().out
    damage(client, "n + 2 AS n", DELIVERIES)

    assert 1 == main(["reconcile"])
    words = capsys.readouterr().out
    assert "2027-01-14 02:00" in words
    assert "differences are left" in words
    assert [("books", 4, 0, 0, 0, 0), ("hours", 1, 1, 0, 0, 1), ("minutes", 8, 1, 0, 0, 1)] == list(
        client.query(OUTCOMES).result_rows
    )

    assert 0 == main(["reconcile", "--repair", "--json"])
    told = orjson.loads(capsys.readouterr().out.splitlines()[-1])
    assert ["repaired"] == [cell["state"] for cell in told["cell_findings"]]
    assert told["is_well"]
    assert (1, 1, 0) == tuple(told["minutes"][k] for k in ("differing", "repaired", "remaining"))
    assert ("hours", 1, 0, 0, 0, 0) in client.query(OUTCOMES).result_rows


def test_no_value_of_a_message_is_told(
    client: Client, environment: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """Campaign and channel name a cell in the table, and come from the body."""
    worker = Worker(client)
    soiled = with_body(delivered(1), campaign=CANARY, tenant=CANARY, arm=CANARY)
    worker.take(soiled)
    client.command("TRUNCATE TABLE rollup_1m_lanes")
    client.command("TRUNCATE TABLE fates")

    for form in ([], ["--json"]):
        assert 1 == main(["reconcile", *form])
        out = capsys.readouterr().out
        assert "no row" in out
        assert CANARY not in out


@pytest.mark.parametrize("bad", [["--since", "soon"], ["--since", "0d"], ["--watch", "0"]])
def test_options_out_of_bounds_are_refused(bad: list[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["reconcile", *bad])


def test_a_span_that_is_too_long_ends_the_command_with_its_code(
    environment: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert 78 == main(["reconcile", "--since", "8d"])
    assert "kept for 7 days only" in capsys.readouterr().err


class EndingClock(ManualClock):
    """Each look moves an hour on; the third one asks the process to stop."""

    def now_ms(self) -> int:
        self.move(3_600_000)
        if self.at_ms > NOW_MS + 2 * 3_600_000:
            signal.raise_signal(signal.SIGTERM)
        return self.at_ms


def test_a_watch_runs_again_and_again_until_it_is_asked_to_stop(
    client: Client, environment: None
) -> None:
    busy_worker(client)
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    quiet = Console(quiet=True)
    settings: Settings = read_settings()
    damage(client, "n + 2 AS n", DELIVERIES)
    try:
        assert 0 == run_reconcile(
            settings,
            REPAIR,
            watch_s=0.01,
            as_json=False,
            console=quiet,
            clock=EndingClock(NOW_MS),
        )
    finally:
        for number, action in zip((signal.SIGTERM, signal.SIGINT), before, strict=True):
            signal.signal(number, action)

    noted = "SELECT at, repaired FROM reconciliations WHERE scope = 'minutes' ORDER BY at"
    assert [1, 0] == [row[1] for row in client.query(noted).result_rows]


def test_reading_is_tried_again_a_bounded_number_of_times(tmp_path: Path) -> None:
    with EmbeddedClickHouse(data_dir=tmp_path, faults=True) as server:
        client = open_tables(ClickHouseAddress(server.dsn, "airside"))
    pauses: list[float] = []

    with pytest.raises(TransientError, match='could not read tables "fates"'):
        read_rows(client, "SELECT 1", {}, name="fates", tries=3, sleep=pauses.append)
    assert 2 == len(pauses)
