"""The ingest dataflow as a process of its own, for tests that stop, kill and starve it."""

from __future__ import annotations

import base64
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from clickhouse_connect.driver.client import Client

from connectors.clickhouse.client import ClickHouseAddress
from flows.commands import apply_all_topics, migrate_database
from flows.settings import Settings, child_environment, read_settings

ROOT: Final = Path(__file__).parents[1]
KEY: Final = base64.b64encode(bytes(range(32))).decode()
STARTED: Final = '"event": "flow_started"'
STOP_S_MAX: Final = 60.0
WAIT_S_MAX: Final = 240.0


class IngestProcess:
    """Starts `airside run ingest` with one data folder and these options, as often as told."""

    flow = "ingest"

    def __init__(
        self,
        folder: Path,
        *,
        bootstrap_servers: str,
        clickhouse: ClickHouseAddress,
        more: Mapping[str, str] | None = None,
        options: Sequence[str] = (),
    ) -> None:
        self.folder = folder
        self.options = options
        self.log = folder / "ingest.log"
        self._child: subprocess.Popen[bytes] | None = None
        self.settings: Settings = read_settings(
            {
                "kafka": {"bootstrap_servers": bootstrap_servers},
                "clickhouse": {"url": clickhouse.url, "database": clickhouse.database},
            }
        )
        self.environment = child_environment(
            {
                "AIRSIDE_KAFKA__BOOTSTRAP_SERVERS": bootstrap_servers,
                "AIRSIDE_KAFKA__CONNECT_TRIES": "1",
                "AIRSIDE_CLICKHOUSE__URL": clickhouse.url,
                "AIRSIDE_CLICKHOUSE__DATABASE": clickhouse.database,
                "AIRSIDE_DATA": str(folder),
                "AIRSIDE_EPOCH_S": "0.5",
                "AIRSIDE_QUARANTINE_KEY": KEY,
                "AIRSIDE_LOG": "json",
                **(more or {}),
            }
        )

    def prepare(self) -> None:
        """Make topics and tables."""
        apply_all_topics(self.settings)
        migrate_database(self.settings.clickhouse_address)

    def start(self, *, started: str = STARTED) -> None:
        """Start it and wait until the flow is built and has its signals."""
        before = self.words().count(started)
        self.spawn()
        self.wait_for(started, before + 1)

    def wait_for(self, word: str, count: int) -> None:
        """Wait until its log has a word so many times."""
        deadline_s = time.monotonic() + WAIT_S_MAX
        while self.words().count(word) < count:
            assert time.monotonic() < deadline_s, self.words()[-3_000:]
            assert self.is_running(), self.words()[-3_000:]
            time.sleep(0.05)

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._child is not None
        return self._child.pid

    def spawn(self) -> None:
        """Start it without waiting for anything."""
        assert self._child is None
        with self.log.open("ab") as out:
            self._child = subprocess.Popen(
                [sys.executable, "-m", "flows", "run", self.flow, *self.options],
                cwd=ROOT,
                env=self.environment,
                stdout=out,
                stderr=subprocess.STDOUT,
            )

    def run_to_the_end(self, *, seconds_max: float = STOP_S_MAX) -> int:
        """Start and wait until it ends by itself; gives the exit code."""
        self.spawn()
        return self._ended(seconds_max)

    def stop(self) -> int:
        """Ask it to stop and wait; gives the exit code."""
        assert self._child is not None
        self._child.send_signal(signal.SIGTERM)
        return self._ended(STOP_S_MAX)

    def kill(self) -> None:
        """End it as a crash would."""
        if self._child is not None:
            self._child.kill()
            self._ended(STOP_S_MAX)

    def command(self, *words: str) -> str:
        """Run another command with the same settings; gives what it printed."""
        ran = subprocess.run(
            [sys.executable, "-m", "flows", *words],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=WAIT_S_MAX,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    def is_running(self) -> bool:
        return self._child is not None and self._child.poll() is None

    def _ended(self, seconds: float) -> int:
        assert self._child is not None
        child, self._child = self._child, None
        try:
            return child.wait(seconds)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
            raise

    def words(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""


def decided(client: Client) -> int:
    """How many messages have a door."""
    return int(client.query("SELECT sum(n) FROM fates FINAL").result_rows[0][0])


def wait_decided(client: Client, count: int, ingest: IngestProcess | None = None) -> None:
    """Wait until so many messages have a door, within a bound."""
    deadline_s = time.monotonic() + WAIT_S_MAX
    while (found := decided(client)) < count:
        words = ingest.words()[-3_000:] if ingest is not None else ""
        assert time.monotonic() < deadline_s, f"{found} of {count} decided; {words}"
        assert ingest is None or ingest.is_running(), words
        time.sleep(0.1)
