"""Tables, migrations and the writer on a running ClickHouse, and with one that misbehaves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from clickhouse_connect.driver.client import Client

from connectors.clickhouse.client import ClickHouseAddress, connect
from connectors.clickhouse.migrations import apply_migrations, read_migrations
from connectors.clickhouse.tables import TABLES
from connectors.clickhouse.writer import TableWriter
from connectors.embedded.clickhouse import EmbeddedClickHouse
from flows.places import MIGRATIONS
from schemas.blocks import Rows
from schemas.errors import ConfigError, PermanentError, TransientError
from tests.services import ClickHouseService

ARROW_TO_CLICKHOUSE = {
    "string": "String",
    "timestamp[ms, tz=UTC]": "DateTime",
    "uint8": "UInt8",
    "uint16": "UInt16",
    "uint32": "UInt32",
    "uint64": "UInt64",
    "int64": "Int64",
    "date32[day]": "Date32",
    "list<item: string>": "Array(String)",
    "list<item: uint64>": "Array(UInt64)",
    "list<item: double>": "Array(Float64)",
}


def migrated(address: ClickHouseAddress) -> Client:
    client = connect(address, create_database=True, tries=2)
    apply_migrations(client, read_migrations(MIGRATIONS))
    return client


@pytest.fixture
def client(clickhouse_tables: ClickHouseAddress) -> Iterator[Client]:
    opened = connect(clickhouse_tables)
    yield opened
    opened.close()


class Faulty:
    """An embedded ClickHouse of the test's own, with the fault switch."""

    def __init__(self, server: EmbeddedClickHouse) -> None:
        self.server = server
        self.address = ClickHouseAddress(server.dsn, "airside")

    def switch(self, mode: str, **more: Any) -> None:
        words = "&".join(f"{name}={value}" for name, value in {"mode": mode, **more}.items())
        with urlopen(Request(f"{self.server.dsn}/fault?{words}", method="POST"), timeout=10) as ok:
            ok.read()


@pytest.fixture
def faulty(tmp_path: Path) -> Iterator[Faulty]:
    with EmbeddedClickHouse(data_dir=tmp_path, faults=True) as server:
        yield Faulty(server)


def fates(n: int, *, ver: int | None = None, run: int = 0, size: int = 1) -> Rows:
    columns = {
        "topic": ["t.v1"] * size,
        "part": [0] * size,
        "run": list(range(run, run + size)),
        "door": ["routed"] * size,
        "code": [""] * size,
        "source": ["/a"] * size,
        "lane": [0] * size,
        "n": [n] * size,
        "ver": [n if ver is None else ver] * size,
    }
    return Rows("fates", size, columns)


def total(client: Client) -> int:
    return int(client.query("SELECT sum(n) FROM fates FINAL").result_rows[0][0])


def test_written_columns_are_those_of_the_tables(client: Client) -> None:
    for name, table in TABLES.items():
        rows = client.query(f"DESCRIBE TABLE {name}").result_rows
        found = {
            str(name): str(kind).replace("LowCardinality(String)", "String")
            for name, kind, how, *_ in rows
            if how != "MATERIALIZED"  # worked out by ClickHouse, and written by nobody
        }

        assert set(table.schema.names) == set(found)
        for field in table.schema:
            wanted = ARROW_TO_CLICKHOUSE.get(str(field.type).replace("element", "item"))
            if wanted is not None:
                assert found[field.name].removeprefix("Nullable(").startswith(wanted), (
                    name,
                    field.name,
                )


def test_migrations_apply_once_and_an_edited_one_is_refused(client: Client, tmp_path: Path) -> None:
    migrations = read_migrations(MIGRATIONS)

    assert [] == apply_migrations(client, migrations)
    edited = [migrations[0]._replace(sha256="0" * 64), *migrations[1:]]
    with pytest.raises(ConfigError, match="another content than was applied"):
        apply_migrations(client, edited)


def test_a_migration_that_fails_names_its_statement(client: Client) -> None:
    migrations = read_migrations(MIGRATIONS)
    broken = migrations[0]._replace(number=len(migrations) + 1, statements=("SELECT 1", "NO SQL"))

    with pytest.raises(PermanentError, match="at statement 2"):
        apply_migrations(client, [broken])


def test_the_greatest_version_of_a_row_wins_whatever_the_order(client: Client) -> None:
    writer = TableWriter(client)
    for n in (3, 7, 5, 7):
        writer.add(fates(n))
        writer.flush()

    assert 7 == total(client)


def test_one_flush_sends_one_row_a_key(client: Client) -> None:
    writer = TableWriter(client, rows_max=1_000_000)
    for n in (1, 9, 4):
        writer.add(fates(n))
    writer.flush()

    assert 9 == total(client)
    assert [(1,)] == list(client.query("SELECT count() FROM fates").result_rows)


def test_rows_go_out_when_there_are_enough(client: Client) -> None:
    writer = TableWriter(client, rows_max=10)
    writer.add(fates(1, size=9))

    assert 0 == total(client)
    writer.add(fates(1, run=9))
    assert 10 == total(client)


def test_a_refusing_clickhouse_is_retried_until_it_takes_the_rows(faulty: Faulty) -> None:
    client = migrated(faulty.address)
    pauses: list[float] = []
    writer = TableWriter(client, sleep=pauses.append)
    faulty.switch("refuse", count=3)
    writer.add(fates(4))
    writer.flush()

    assert 3 == len(pauses)
    assert 4 == total(client)


def test_a_timeout_after_applying_changes_nothing(faulty: Faulty) -> None:
    client = migrated(faulty.address)
    writer = TableWriter(client, sleep=lambda _: None)
    faulty.switch("apply_then_timeout", count=1)
    writer.add(fates(4))
    writer.flush()

    assert 4 == total(client)


def test_a_clickhouse_that_stays_away_stops_the_worker_in_time(faulty: Faulty) -> None:
    client = migrated(faulty.address)
    clock = [0.0]
    writer = TableWriter(
        client,
        retry_s_max=60.0,
        sleep=lambda pause: clock.__setitem__(0, clock[0] + pause),
        steady_s=lambda: clock[0],
    )
    faulty.switch("refuse")
    writer.add(fates(4))

    with pytest.raises(TransientError, match='could not write table "fates"'):
        writer.flush()
    assert 30.0 < clock[0] <= 60.0


def test_rows_that_clickhouse_refuses_stop_the_worker_at_once(client: Client) -> None:
    client.command("DROP TABLE fates SYNC")
    writer = TableWriter(client, sleep=lambda _: None)
    writer.add(fates(1))

    with pytest.raises(PermanentError, match="ClickHouse error 60"):
        writer.flush()


def test_rows_of_many_months_go_in_one_insert(client: Client) -> None:
    """A replayed log may hold years; ClickHouse's own bound is 100 partitions an insert."""
    month_ms = 31 * 86_400_000
    months = 200
    values: dict[str, Any] = {
        "w": [n * month_ms // 60_000 * 60_000 for n in range(months)],
        "lane": [0] * months,
        "late": [0] * months,
        "n": [1] * months,
        "amount_minor": [0] * months,
        "latency_hist": [[1] + [0] * 31] * months,
        "recorded_at": [1_800_000_000_000] * months,
        "ver": [1] * months,
    }
    for name in ("event_type", "campaign", "channel", "class", "currency", "arm"):
        values[name] = ["x"] * months
    writer = TableWriter(client)
    writer.add(Rows("rollup_1m_lanes", months, values))
    writer.flush()

    rows = client.query("SELECT sum(n), uniqExact(w) FROM rollup_1m").result_rows
    assert [(months, months)] == list(rows)


def test_an_address_without_clickhouse_is_named_after_a_bounded_wait() -> None:
    pauses: list[float] = []

    with pytest.raises(TransientError, match=r'could not reach ClickHouse "http://127\.0\.0\.1:9"'):
        connect(ClickHouseAddress("http://127.0.0.1:9", "airside"), tries=3, sleep=pauses.append)
    assert 2 == len(pauses)


def test_a_database_that_is_missing_is_named(clickhouse_service: ClickHouseService) -> None:
    with pytest.raises(ConfigError, match="airside migrate"):
        connect(ClickHouseAddress(clickhouse_service.dsn, "nowhere"), tries=1)


def test_an_address_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="http://host:port"):
        connect(ClickHouseAddress("tcp:9000", "airside"), tries=1)
