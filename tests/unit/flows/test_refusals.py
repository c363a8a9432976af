"""What cannot work is said in one line with the right exit code, and never as a traceback."""

from __future__ import annotations

import io
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
import structlog

from connectors.metrics import serve
from flows.__main__ import main
from flows.cells import Home, Manifest, owned
from flows.steps.seal import Sealer
from schemas.errors import ConfigError
from tests.messages import KEY

ABOUT = "ntf.requests.v1/0/1"


@pytest.fixture(autouse=True)
def places(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Addresses where nothing is; a command sets the log up, and that must not outlive it."""
    for name, value in {
        "KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:1",
        "KAFKA__CONNECT_TRIES": "1",
        "CLICKHOUSE__URL": "http://127.0.0.1:1",
    }.items():
        monkeypatch.setenv(f"AIRSIDE_{name}", value)
    yield
    structlog.reset_defaults()


def refused(capsys: pytest.CaptureFixture[str], *words: str, code: int = 78) -> str:
    """The one line that a command ends with."""
    capsys.readouterr()
    assert code == main(list(words))

    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("airside: could not ")
    return line


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ("no JSON", "AIRSIDE_KAFKA__EXTRA: no JSON"),
        ("[1]", "AIRSIDE_KAFKA__EXTRA: Input should be a valid dictionary"),
        ('{"linger": "5"}', 'No such configuration property: "linger"'),
        ('{"debug": "hunter2"}', 'Invalid value … for configuration property "debug"'),
        ('{"linger.ms": "hunter2"}', "queue.buffering.max.ms"),
        ('{"max.in.flight": "99"}', "max.in.flight"),
        ('{"error_cb": "hunter2"}', "error_cb"),
        (
            '{"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN"}',
            "sasl.username and sasl.password must be set",
        ),
    ],
)
def test_an_extra_that_no_client_takes_is_said_without_its_values(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], extra: str, said: str
) -> None:
    monkeypatch.setenv("AIRSIDE_KAFKA__EXTRA", extra)
    line = refused(capsys, "topics", "apply")

    assert said in line
    assert "hunter2" not in line


def test_an_extra_that_clients_take_is_not_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The broker is not there, and that is what is said."""
    monkeypatch.setenv("AIRSIDE_KAFKA__EXTRA", '{"client.rack": "a", "linger.ms": "7"}')

    assert "could not reach Kafka broker" in refused(capsys, "topics", "apply", code=75)


def test_a_policy_that_is_not_utf_8_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "policy.yaml"
    path.write_bytes(b"version: \xff\xfe")

    assert "no UTF-8" in refused(capsys, "policy", "check", str(path))


@pytest.mark.parametrize(
    "line",
    [
        b"no JSON",
        b"[]",
        b"7",
        b'"sealed"',
        b"null",
        b"{}",
        orjson.dumps({"sealed": 5, "origin": ABOUT}),
        orjson.dumps({"sealed": "AAAA", "origin": 5}),
        orjson.dumps({"sealed": "no base64!", "origin": ABOUT}),
        orjson.dumps({"sealed": "A", "origin": ABOUT}),
        orjson.dumps({"sealed": "", "origin": ABOUT})[:-1],
    ],
)
def test_a_line_that_is_no_notice_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], line: bytes
) -> None:
    good = orjson.dumps({"sealed": Sealer(KEY).seal(b"{}", about=ABOUT), "origin": ABOUT})
    monkeypatch.setenv("AIRSIDE_QUARANTINE_KEY", KEY)
    lines = io.BytesIO(good + b"\n" + line + b"\n")
    opened = io.BytesIO()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(lines))
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(opened))

    found = refused(capsys, "unseal", code=70)
    assert '"2"' in found or ABOUT in found
    assert 1 == opened.getvalue().count(b"\n")


def test_a_data_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    shape = Manifest("ingest", 4, ("a",), 1)

    with (
        pytest.raises(ConfigError, match="set another AIRSIDE_DATA"),
        owned(Home(tmp_path / "file", "ingest"), shape),
    ):
        raise AssertionError


def test_a_file_that_the_system_refuses_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "recovery").write_text("where a folder belongs")
    monkeypatch.setenv("AIRSIDE_DATA", str(tmp_path))

    assert "Not a directory" in refused(capsys, "rescale", "ingest", "--cells", "2")


def test_a_metrics_port_that_is_taken_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"at port {port}.*AIRSIDE_METRICS_PORT"):
            serve(port)
    with pytest.raises(ConfigError, match="no such port"):
        serve(65_536)
