"""The HTTP protocol of the embedded ClickHouse, spoken by curl and by plain sockets."""

from __future__ import annotations

import gzip
import json
import shutil
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from http.client import HTTPConnection, HTTPMessage
from pathlib import Path
from urllib.parse import quote

import pytest

from connectors.embedded.child import Child, free_port
from connectors.embedded.clickhouse import EmbeddedClickHouse
from connectors.embedded.clickhouse_server import _listen

pytestmark = pytest.mark.clickhouse
CURL = shutil.which("curl")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedClickHouse]:
    folder = tmp_path_factory.mktemp("clickhouse")
    with EmbeddedClickHouse(data_dir=folder, faults=True) as running:
        post(running, "/", b"CREATE DATABASE airside ENGINE = Atomic")
        yield running


@pytest.fixture
def table(server: EmbeddedClickHouse) -> str:
    post(server, "/", b"CREATE OR REPLACE TABLE airside.t (a UInt64, b String) ENGINE = Memory")
    return "airside.t"


def ask(
    server: EmbeddedClickHouse,
    method: str,
    path: str,
    body: bytes | Iterator[bytes] | None = None,
    headers: dict[str, str] | None = None,
) -> tuple[int, HTTPMessage, bytes]:
    connection = HTTPConnection("127.0.0.1", server.port, timeout=30)
    try:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()


def post(server: EmbeddedClickHouse, path: str, body: bytes) -> bytes:
    status, _, answer = ask(server, "POST", path, body)
    assert status == 200, answer
    return answer


def curl(*arguments: str, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    if CURL is None:
        pytest.skip("no curl on this machine")
    return subprocess.run(
        [CURL, "-sS", "--noproxy", "*", "--max-time", "30", *arguments],
        input=data,
        capture_output=True,
        check=False,
    )


def test_curl_reads_and_writes(server: EmbeddedClickHouse, table: str) -> None:
    insert = quote(f"INSERT INTO {table} FORMAT CSV")
    curl(f"{server.dsn}/?query={insert}", "--data-binary", "@-", data=b"1,one\n2,two\n")
    found = curl(server.dsn, "-d", f"SELECT * FROM {table} ORDER BY a")

    assert found.stdout == b"1\tone\n2\ttwo\n"
    assert curl(f"{server.dsn}/ping").stdout == b"Ok.\n"
    assert curl(server.dsn).stdout == b"Ok.\n"


def test_curl_sends_a_large_file(server: EmbeddedClickHouse, table: str) -> None:
    lines = b"".join(b"%d,value;%d'\n" % (n, n) for n in range(200_000))
    insert = quote(f"INSERT INTO {table} FORMAT CSV")
    curl(f"{server.dsn}/?query={insert}", "--data-binary", "@-", data=lines)

    assert post(server, "/", f"SELECT count(), max(a) FROM {table}".encode()) == b"200000\t199999\n"


def test_curl_notices_a_result_that_broke_off(server: EmbeddedClickHouse) -> None:
    broken = curl(server.dsn, "-d", "SELECT throwIf(number = 900000) FROM numbers(1000000)")

    assert broken.returncode == 18
    assert b"Code: 395" in broken.stdout


def test_urllib_reads(server: EmbeddedClickHouse) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    question = quote("SELECT 1 AS one FORMAT JSON")
    with opener.open(f"{server.dsn}/?query={question}", timeout=30) as response:
        found = json.load(response)

    assert found["data"] == [{"one": 1}]

    with pytest.raises(urllib.error.HTTPError) as caught:
        opener.open(f"{server.dsn}/?query=SELECT", timeout=30)

    assert caught.value.headers["X-ClickHouse-Exception-Code"] == "62"
    caught.value.close()


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO {t} VALUES (1, 'a;b')",
        "INSERT INTO {t} VALUES\n(1, 'a;b');",
        "insert into {t} (a, b) format CSV 1,a;b",
        "INSERT INTO {t} FORMAT TSV\n1\ta;b",
        '/* FORMAT CSV */ INSERT INTO {t} -- VALUES\n FORMAT JSONEachRow {{"a": 1, "b": "a;b"}}',
        "INSERT INTO {t} SETTINGS max_block_size = 10 FORMAT Values (1, 'a;b')",
        "INSERT INTO {t} SELECT 1, 'a;b'",
        "INSERT INTO {t} (a, b) WITH 1 AS n SELECT n, 'a;b'",
    ],
)
def test_statement_and_data_share_a_body(
    server: EmbeddedClickHouse, table: str, statement: str
) -> None:
    post(server, "/", statement.format(t=table).encode())

    assert post(server, "/", f"SELECT * FROM {table}".encode()) == b"1\ta;b\n"


def test_names_like_keywords_are_no_keywords(server: EmbeddedClickHouse) -> None:
    post(server, "/", b"CREATE OR REPLACE TABLE airside.values (format UInt8) ENGINE = Memory")
    post(server, "/?database=airside", b"INSERT INTO values (format) VALUES (1)")
    post(server, "/", b"INSERT INTO airside.values FORMAT CSV 2")

    assert post(server, "/?query=SELECT%20format%20FROM", b"airside.values ORDER BY format") == (
        b"1\n2\n"
    )


def test_an_insert_reports_what_it_wrote(server: EmbeddedClickHouse, table: str) -> None:
    _, headers, _ = ask(server, "POST", "/", f"INSERT INTO {table} FORMAT CSV 1,a\n2,b\n".encode())

    assert json.loads(headers["X-ClickHouse-Summary"])["written_rows"] == "2"


def test_a_query_id_comes_back(server: EmbeddedClickHouse) -> None:
    _, headers, _ = ask(server, "GET", "/?query=SELECT%201&query_id=mine")

    assert headers["X-ClickHouse-Query-Id"] == "mine"
    assert headers["X-ClickHouse-Timezone"] == "UTC"
    assert headers["X-ClickHouse-Server-Display-Name"] == "airside-embedded"


@pytest.mark.parametrize(
    ("name", "encode"), [("gzip", gzip.compress), ("deflate", zlib.compress)], ids=["gzip", "zlib"]
)
def test_encoded_bodies_are_read(
    server: EmbeddedClickHouse, table: str, name: str, encode: Callable[[bytes], bytes]
) -> None:
    rows = b"".join(b"%d,x\n" % n for n in range(50_000))
    headers = {"Content-Encoding": name}
    insert = quote(f"INSERT INTO {table} FORMAT CSV")
    body = encode(rows[:250_002]) + encode(rows[250_002:])
    status, _, _ = ask(server, "POST", f"/?query={insert}", body, headers)

    assert status == 200
    assert post(server, "/", f"SELECT count() FROM {table}".encode()) == b"50000\n"


def test_a_body_that_is_not_what_it_says_is_refused(server: EmbeddedClickHouse) -> None:
    for name in ("gzip", "lz4", "zstd", "deflate"):
        status, _, text = ask(server, "POST", "/", b"SELECT 1", {"Content-Encoding": name})

        assert (status, text[:9]) == (400, b"Code: 117"), name

    half = gzip.compress(b"SELECT 1")[:-4]
    status, _, _ = ask(server, "POST", "/", half, {"Content-Encoding": "gzip"})

    assert status == 400

    status, _, _ = ask(server, "POST", "/", b"SELECT 1", {"Content-Encoding": "br"})

    assert status == 501


def test_an_accepted_encoding_is_used(server: EmbeddedClickHouse) -> None:
    headers = {"Accept-Encoding": "gzip"}
    _, got, body = ask(server, "GET", "/?query=SELECT%201", None, headers)

    assert got["Content-Encoding"] == "gzip"
    assert gzip.decompress(body) == b"1\n"

    _, got, body = ask(server, "GET", "/?query=SELECT%201&enable_http_compression=0", None, headers)

    assert (got["Content-Encoding"], body) == (None, b"1\n")


def test_get_never_writes(server: EmbeddedClickHouse, table: str) -> None:
    for statement in (f"INSERT INTO {table} VALUES (1, 'a')", f"DROP TABLE {table}"):
        status, headers, _ = ask(server, "GET", f"/?query={quote(statement)}")

        assert (status, headers["X-ClickHouse-Exception-Code"]) == (500, "164")


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT 1; DROP TABLE {t}",
        "SELECT 1 FORMAT JSON; DROP TABLE {t}",
        "EXISTS TABLE {t}; DROP TABLE {t}",
        "INSERT INTO {t} SELECT 1, 'a'; DROP TABLE {t}",
    ],
)
def test_two_statements_in_one_request_are_refused(
    server: EmbeddedClickHouse, table: str, statement: str
) -> None:
    status, _, text = ask(server, "POST", "/", statement.format(t=table).encode())

    assert status == 400
    assert b"Multi-statements" in text
    assert post(server, "/", f"SELECT count() FROM {table}; -- and no more".encode()) == b"0\n"


def test_a_lone_word_is_no_statement(server: EmbeddedClickHouse) -> None:
    """The engine alone would read it as a SELECT."""
    assert ask(server, "POST", "/", b"42")[0] == 400


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "attacker.example"},
        {"Host": "127.0.0.1.attacker.example:8123"},
        {"Host": ""},
        {"Origin": "https://attacker.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
    ids=str,
)
def test_a_web_page_cannot_reach_the_server(
    server: EmbeddedClickHouse, headers: dict[str, str]
) -> None:
    status, got, _ = ask(server, "POST", "/", b"SELECT 1", headers)

    assert status == 403
    assert not [name for name in got if name.lower().startswith("access-control")]


def test_loopback_names_are_let_in(server: EmbeddedClickHouse) -> None:
    for host in ("localhost:1", "127.0.0.1", "[::1]:9"):
        assert ask(server, "POST", "/", b"SELECT 1", {"Host": host})[0] == 200


def test_the_server_refuses_to_bind_elsewhere(tmp_path: Path) -> None:
    done = serve_by_hand("--path", str(tmp_path), "--port", "1", "--host", "0.0.0.0")

    assert done.returncode == 78
    assert 'could not listen address "0.0.0.0"' in done.stderr


def serve_by_hand(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "connectors.embedded.clickhouse_server", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=Path(__file__).parents[2],
    )


def test_bodies_past_the_bound_are_refused(tmp_path: Path) -> None:
    port = free_port()
    options = ["--path", str(tmp_path / "data"), "--port", str(port), "--body-mb-max", "1"]
    small = EmbeddedClickHouse(data_dir=tmp_path)
    small.port = port
    child = Child(
        name="small",
        argv=[sys.executable, "-m", "connectors.embedded.clickhouse_server", *options],
        log_file=tmp_path / "small.log",
        healthy=small.healthy,
        cwd=Path(__file__).parents[2],
    )
    with child:
        post(small, "/", b"CREATE TABLE t (a String) ENGINE = Memory")
        insert = f"/?query={quote('INSERT INTO t FORMAT CSV')}"
        plain = ask(small, "POST", insert, b"x\n" * 600_000)
        endless = ask(small, "POST", insert, iter([b"x\n" * 100_000] * 6))
        bomb = ask(
            small, "POST", insert, gzip.compress(b"x\n" * 5_000_000), {"Content-Encoding": "gzip"}
        )

        assert (plain[0], endless[0], bomb[0]) == (413, 413, 413)
        assert post(small, "/", b"SELECT count() FROM t") == b"0\n"


def switch(server: EmbeddedClickHouse, setting: str) -> None:
    post(server, f"/fault?{setting}", b"")


def test_the_fault_switch_refuses(server: EmbeddedClickHouse) -> None:
    switch(server, "mode=refuse&count=1")

    assert ask(server, "POST", "/", b"SELECT 1")[0] == 503
    assert ask(server, "POST", "/", b"SELECT 1")[0] == 200


def test_the_fault_switch_applies_and_times_out(server: EmbeddedClickHouse, table: str) -> None:
    switch(server, "mode=apply_then_timeout&seconds=0.01&count=2")

    assert ask(server, "POST", "/", f"INSERT INTO {table} VALUES (1, 'a')".encode())[0] == 504
    assert ask(server, "POST", "/", b"SELECT 1")[0] == 504
    assert post(server, "/", f"SELECT count() FROM {table}".encode()) == b"1\n"


def test_the_fault_switch_slows_down_others_not_ping(server: EmbeddedClickHouse) -> None:
    switch(server, "mode=slow&seconds=0.3&count=1")
    answers: list[str] = []
    slow = threading.Thread(
        target=lambda: answers.append(post(server, "/", b"SELECT 'slow'").decode().strip())
    )
    slow.start()
    ping = ask(server, "GET", "/ping")[0]
    slow.join(timeout=30)

    assert (ping, answers) == (200, ["slow"])


def test_an_unknown_fault_is_refused(server: EmbeddedClickHouse) -> None:
    assert ask(server, "POST", "/fault?mode=gremlins")[0] == 400


def test_without_the_option_there_is_no_fault_switch(tmp_path: Path) -> None:
    with EmbeddedClickHouse(data_dir=tmp_path) as honest:
        assert ask(honest, "POST", "/fault?mode=refuse")[0] == 404
        assert post(honest, "/", b"SELECT 1") == b"1\n"


def test_native_block_compression_is_refused_in_words(server: EmbeddedClickHouse) -> None:
    status, _, text = ask(server, "POST", "/?compress=1", b"SELECT 1")

    assert status == 501
    assert b"drop compress=1" in text


def test_no_payload_reaches_the_log(server: EmbeddedClickHouse, table: str) -> None:
    for body in (f"INSERT INTO {table} FORMAT CSV canary-7f3a,1", "SELECT toUInt8('canary-7f3a')"):
        assert ask(server, "POST", "/", body.encode())[0] == 400

    assert "canary" not in server.child.log_file.read_text()


def test_small_answers_do_not_wait_for_acknowledgements() -> None:
    """Without the protocol's name on the socket every small request takes 40 ms longer."""
    with _listen("127.0.0.1", 0) as listener:
        assert listener.proto == socket.IPPROTO_TCP
