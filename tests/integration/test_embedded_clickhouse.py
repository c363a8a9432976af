"""The unmodified clickhouse-connect client against ClickHouse of the embedded stack."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import clickhouse_connect
import pandas as pd
import pyarrow as pa
import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError, StreamFailureError
from clickhouse_connect.driver.external import ExternalData
from clickhouse_connect.driver.summary import QuerySummary

from connectors.embedded.clickhouse import EmbeddedClickHouse

pytestmark = pytest.mark.clickhouse

COLUMNS = {
    "id": "UInt64",
    "at": "DateTime64(3, 'UTC')",
    "amount": "Decimal(18, 4)",
    "hist": "Array(UInt64)",
    "hops": "Array(Tuple(String, UInt32))",
    "channel": "LowCardinality(String)",
    "body": "JSON",
    "note": "Nullable(String)",
}
ROWS: list[list[Any]] = [
    [
        1,
        datetime(2026, 3, 1, 12, 30, 15, 123_000, tzinfo=UTC),
        Decimal("12.3400"),
        [1, 2**63],
        [("in", 0), ("va", 7)],
        "email",
        {"campaign": "spring", "n": 3},
        None,
    ],
    [
        2,
        datetime(1999, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC),
        Decimal("-0.0001"),
        [],
        [],
        "push",
        {},
        "Zoë; 'quoted' \\ and \x00 more\n",
    ],
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedClickHouse]:
    with EmbeddedClickHouse(data_dir=tmp_path_factory.mktemp("clickhouse")) as running:
        yield running


def connect(server: EmbeddedClickHouse, *, compress: bool | str = True) -> Client:
    return clickhouse_connect.get_client(dsn=server.dsn, compress=compress, tz_mode="aware")


def with_facts(made: Client) -> Client:
    made.command("CREATE DATABASE IF NOT EXISTS airside ENGINE = Atomic")
    made.command("DROP TABLE IF EXISTS airside.facts SYNC")
    columns = ", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())
    made.command(
        f"CREATE TABLE airside.facts ({columns}) ENGINE = MergeTree ORDER BY id"
        " SETTINGS fsync_after_insert = 1, non_replicated_deduplication_window = 100"
    )
    return made


@pytest.fixture
def client(server: EmbeddedClickHouse) -> Iterator[Client]:
    made = connect(server)
    yield with_facts(made)
    made.close()


@pytest.fixture(params=[False, "lz4", "zstd", "gzip"], ids=str)
def any_client(server: EmbeddedClickHouse, request: pytest.FixtureRequest) -> Iterator[Client]:
    """A client for every encoding of bodies that it can write."""
    made = connect(server, compress=request.param)
    yield with_facts(made)
    made.close()


@pytest.fixture
def plain(server: EmbeddedClickHouse) -> Iterator[Client]:
    made = connect(server)
    made.command("CREATE DATABASE IF NOT EXISTS airside ENGINE = Atomic")
    yield made
    made.close()


def test_client_reads_version_and_time_zone_on_connect(plain: Client) -> None:
    assert str(plain.server_version).startswith("26.")
    assert str(plain.server_tz) == "UTC"
    assert plain.ping()


def test_rows_of_every_type_come_back_as_they_went(any_client: Client) -> None:
    done = any_client.insert(
        "airside.facts",
        ROWS,
        column_names=list(COLUMNS),
        column_type_names=list(COLUMNS.values()),
    )

    assert done.written_rows == 2

    found = any_client.query(
        "SELECT * EXCEPT body, body.campaign::String FROM airside.facts ORDER BY id",
    )

    expected = [(*row[:6], row[7], dict(row[6]).get("campaign", "")) for row in ROWS]
    assert [tuple(row) for row in found.result_rows] == expected


def test_json_columns_come_back_as_they_went(any_client: Client) -> None:
    any_client.insert("airside.facts", ROWS, column_names=list(COLUMNS))

    found = any_client.query("SELECT body FROM airside.facts ORDER BY id").result_rows

    assert found == [({"campaign": "spring", "n": 3},), ({},)]


def test_arrow_tables_go_in_and_come_out(any_client: Client) -> None:
    table = pa.table(
        {
            "id": pa.array(range(100_000), pa.uint64()),
            "at": pa.array([datetime(2026, 3, 1, tzinfo=UTC)] * 100_000, pa.timestamp("ms", "UTC")),
            "channel": pa.array(["email", "push"] * 50_000).dictionary_encode(),
            "hist": pa.array([[1, 2]] * 100_000, pa.list_(pa.uint64())),
        }
    )

    done = any_client.insert_arrow("airside.facts", table)
    found = any_client.query_arrow(
        "SELECT id, channel, hist FROM airside.facts ORDER BY id", use_strings=True
    )

    assert done.written_rows == 100_000
    assert found.num_rows == 100_000
    assert found.column("id").to_pylist() == list(range(100_000))
    assert set(found.column("channel").to_pylist()) == {"email", "push"}
    assert (
        any_client.command("SELECT count() FROM system.parts WHERE active AND table = 'facts'") == 1
    )


def test_data_frames_go_in_and_come_out(any_client: Client) -> None:
    frame = pd.DataFrame({"id": [1, 2, 3], "channel": ["email", "push", "email"]})

    any_client.insert_df("airside.facts", frame)
    found = any_client.query_df("SELECT id, channel FROM airside.facts ORDER BY id")

    assert found.to_dict("list") == {"id": [1, 2, 3], "channel": ["email", "push", "email"]}


def test_large_results_stream_block_by_block(any_client: Client) -> None:
    with any_client.query_row_block_stream("SELECT number FROM numbers(500000)") as blocks:
        sizes = [len(block) for block in blocks]

    assert sum(sizes) == 500_000
    assert len(sizes) > 1


def test_a_failure_inside_a_stream_reaches_the_client(any_client: Client) -> None:
    question = "SELECT throwIf(number = 400000) FROM numbers(500000)"

    with (
        pytest.raises(StreamFailureError) as caught,
        any_client.query_row_block_stream(question) as blocks,
    ):
        for _ in blocks:
            pass

    assert caught.value.code == 395


def test_parameters_are_bound_by_the_engine(client: Client) -> None:
    found = client.query(
        "SELECT {n:UInt64} + 1, {s:String}, {a:Array(String)}, {at:DateTime64(3)}",
        parameters={
            "n": 41,
            "s": "it's \\ a\ttab\nand {n:UInt64}; DROP",
            "a": ["x'y", "z"],
            "at": datetime(2026, 3, 1, 1, 2, 3, 4_000),  # noqa: DTZ001 - the type has no zone
        },
    ).first_row

    assert found is not None
    assert found[:3] == (42, "it's \\ a\ttab\nand {n:UInt64}; DROP", ["x'y", "z"])


def test_a_parameter_too_long_for_an_address_comes_as_a_form(client: Client) -> None:
    long = "x" * 300_000

    assert client.query("SELECT length({s:String})", parameters={"s": long}).first_row == (300_000,)


def test_inserted_values_may_use_parameters(client: Client) -> None:
    client.command(
        "INSERT INTO airside.facts (id, channel) VALUES ({n:UInt64}, {c:String})",
        parameters={"n": 9, "c": "it's"},
    )

    assert client.query("SELECT id, channel FROM airside.facts").result_rows == [(9, "it's")]


def test_settings_hold_for_one_request_only(client: Client) -> None:
    with_setting = client.command(
        "SELECT getSetting('max_block_size')", settings={"max_block_size": 77}
    )

    assert with_setting == 77
    assert client.command("SELECT getSetting('max_block_size')") != 77


def test_an_unknown_setting_is_refused_by_name(plain: Client) -> None:
    with pytest.raises(DatabaseError) as caught:
        plain.raw_query("SELECT 1", settings={"no_such_setting_at_all": 1})

    assert caught.value.code == 115


def test_a_repeated_deduplication_token_writes_once(client: Client) -> None:
    for _ in range(2):
        client.insert(
            "airside.facts",
            [[1, "email"]],
            column_names=["id", "channel"],
            settings={"insert_deduplication_token": "block-1"},
        )

    assert client.command("SELECT count() FROM airside.facts") == 1


def test_errors_carry_code_and_name(client: Client) -> None:
    for statement, code, name in (
        ("SELECT * FROM airside.nowhere", 60, "UNKNOWN_TABLE"),
        ("SELECT FROM WHERE", 62, "SYNTAX_ERROR"),
        ("SELECT toUInt8('x')", 6, "CANNOT_PARSE_TEXT"),
        ("INSERT INTO airside.nowhere (a) VALUES (1)", 60, "UNKNOWN_TABLE"),
    ):
        with pytest.raises(DatabaseError) as caught:
            client.command(statement)

        assert (caught.value.code, caught.value.name) == (code, name)


def test_commands_return_what_they_read(client: Client) -> None:
    assert client.command("SELECT 'a', 2") == ["a", "2"]
    assert client.command("EXISTS TABLE airside.facts") == 1
    assert client.command("SHOW TABLES FROM airside LIKE 'facts'") == "facts"
    assert client.command("SELECT 1 WHERE 0") == ""
    done = client.command("ALTER TABLE airside.facts ADD COLUMN IF NOT EXISTS x UInt8")
    assert isinstance(done, QuerySummary)
    assert done.query_id()


def test_the_database_of_the_client_is_used(server: EmbeddedClickHouse, plain: Client) -> None:
    plain.command("CREATE TABLE IF NOT EXISTS airside.named (id UInt8) ENGINE = Memory")
    other = clickhouse_connect.get_client(dsn=f"{server.dsn}/airside")

    assert other.command("SELECT currentDatabase()") == "airside"
    assert other.command("EXISTS TABLE named") == 1

    other.close()


def test_a_missing_database_is_refused(server: EmbeddedClickHouse) -> None:
    with pytest.raises(DatabaseError) as caught:
        clickhouse_connect.get_client(dsn=f"{server.dsn}/nowhere").command("SELECT 1")

    assert caught.value.code == 81


def test_external_tables_live_for_one_request(plain: Client) -> None:
    people = ExternalData(
        file_name="people.csv",
        data=b"1,Ada\n2,Zo\xc3\xab\n",
        fmt="CSV",
        structure="id UInt8, name String",
    )
    found = plain.query("SELECT name FROM people ORDER BY id", external_data=people).result_rows

    assert found == [("Ada",), ("Zoë",)]
    with pytest.raises(DatabaseError):
        plain.query("SELECT name FROM people")


def test_raw_formats_pass_through(plain: Client) -> None:
    plain.command("CREATE OR REPLACE TABLE airside.raw (id UInt8, name String) ENGINE = Memory")
    plain.raw_insert("airside.raw", ["id", "name"], '{"id": 1, "name": "Ada"}', fmt="JSONEachRow")
    plain.raw_insert("airside.raw", ["id", "name"], b"2,Bo\n3,Cy\n", fmt="CSV")

    assert plain.raw_query("SELECT * FROM airside.raw ORDER BY id", fmt="CSV") == (
        b'1,"Ada"\n2,"Bo"\n3,"Cy"\n'
    )
    assert plain.raw_query("SELECT 1 AS one", fmt="Parquet")[:4] == b"PAR1"


def test_eight_clients_write_and_read_side_by_side(
    server: EmbeddedClickHouse, plain: Client
) -> None:
    plain.command(
        "CREATE OR REPLACE TABLE airside.crowd (who UInt8, n UInt32) ENGINE = MergeTree ORDER BY n"
    )
    barrier = threading.Barrier(8)

    def work(who: int) -> int:
        mine = connect(server)
        barrier.wait(timeout=30)
        for turn in range(10):
            mine.insert("airside.crowd", [[who, turn * 100 + at] for at in range(100)])
        rows = int(str(mine.command(f"SELECT count() FROM airside.crowd WHERE who = {who}")))
        mine.close()
        return rows

    with ThreadPoolExecutor(8) as threads:
        counts = list(threads.map(work, range(8)))

    assert counts == [1000] * 8
    assert plain.command("SELECT count() FROM airside.crowd") == 8000
