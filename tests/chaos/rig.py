"""Everything that a run needs: Kafka, ClickHouse, the target, the load, and how to mend it all."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Self
from urllib.error import URLError
from urllib.request import Request, urlopen

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from connectors.clickhouse.client import ClickHouseAddress, connect
from connectors.embedded.clickhouse import EmbeddedClickHouse
from flows.commands import apply_all_topics, migrate_database
from flows.settings import child_environment, read_settings, variables
from schemas.errors import AirsideError
from tests.chaos.clock import VARIABLE as CLOCK
from tests.chaos.clock import MovedClock
from tests.chaos.load import GATE_LATENESS_S, Load
from tests.chaos.sabotage import VARIABLE as SABOTAGE
from tests.chaos.target import CONFIG, ROOT, SITE, ClusterTarget, StuckError, Target
from tests.chaos.watch import Watch
from tests.ingest_process import KEY
from tests.services import Breakable

TRANSACTION_S: Final = {"ingest": 6, "all": 12}
"""How long a transaction of a flow may stay open: its slowest epoch on a busy machine."""

EPOCH_S: Final = 0.5
DECIDED_S_MAX: Final = 480.0
BACK_OFF_S: Final = 0.3
RESTARTS_IN_A_ROW_MAX: Final = 12
ASK_S_MAX: Final = 10.0
FOLLOWED: Final = {
    "AIRSIDE_TIMING__WINDOW_S": "600",
    "AIRSIDE_TIMING__PUBLISH_S": "1",
    "AIRSIDE_TIMING__RESULTS_S": "60",
}
"""Of the flow with followers: windows that end, and much that lanes tell each other."""


class Rig:
    """A running system under load, from entering to leaving.

    Faults act on its parts; `keep` plays the operator that starts again what ended, `mend` takes
    every fault away. On leaving nothing of it runs any more.
    """

    def __init__(
        self,
        folder: Path,
        kafka: Breakable,
        *,
        cells: int = 0,
        flow: str = "ingest",
        more: Mapping[str, str] | None = None,
        sabotage: str = "",
        cluster: bool = False,
    ) -> None:
        self.folder = folder
        self.kafka = kafka
        self.servers = kafka.bootstrap_servers
        self.clickhouse = EmbeddedClickHouse(data_dir=folder, faults=True)
        self.address = ClickHouseAddress(self.clickhouse.dsn, "airside")
        self.transaction_s = TRANSACTION_S[flow]
        wishes = {
            "AIRSIDE_KAFKA__TRANSACTION_S_MAX": str(self.transaction_s),
            "AIRSIDE_CLICKHOUSE__RETRY_S_MAX": str(self.transaction_s - 2 * EPOCH_S),
            **(FOLLOWED if flow == "all" else {}),
            # How long a process of a cluster waits for one that is gone, too.
            **({"AIRSIDE_WATCHDOG_S": "20"} if cluster else {}),
            **(more or {}),
        }
        self.environment = environment_of(folder, self.servers, self.address, wishes)
        self.tables = ("airside.erasure.v1",) if flow == "all" else ()
        self.clock = MovedClock(folder)
        site = tampered(self.clock, sabotage, self.environment)
        kind = ClusterTarget if cluster else Target
        self.target = kind(folder, {**self.environment, **site}, cells=cells, flow=flow)
        self.watch = Watch(self.target)
        self.unexplained: list[str] = []
        self.breaches: list[str] = []
        self.notes: list[str] = []
        self.hits: Counter[str] = Counter()
        self._in_a_row = 0
        self._last_start_s = 0.0
        self._clients: list[Client] = []
        self._load: Load | None = None

    def __enter__(self) -> Self:
        """Start ClickHouse, make topics and tables."""
        self.clickhouse.start()
        settings = read_settings(
            {
                "kafka": {"bootstrap_servers": self.servers},
                "clickhouse": {"url": self.address.url, "database": self.address.database},
            }
        )
        apply_all_topics(settings)
        migrate_database(self.address)
        self.watch.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave nothing behind."""
        if self._load is not None:
            self._load.abandon()
        self.watch.stop()
        with contextlib.suppress(AirsideError):
            self.target.kill()
        for pid in self.target.orphans():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for client in self._clients:
            client.close()
        self.clickhouse.stop()

    @property
    def load(self) -> Load:
        """What is being sent."""
        assert self._load is not None
        return self._load

    def begin(self, load: Load) -> None:
        """Start to send, and wait until the profiles are decided and the stream has begun."""
        self._load = load
        client = self.client()
        load.start(lambda: _wait_profiles(client, load))
        deadline_s = time.monotonic() + DECIDED_S_MAX
        while load.is_sending() and load.truth.total <= load.world.profile_count:
            self.keep()
            if time.monotonic() > deadline_s:
                raise StuckError("stream", DECIDED_S_MAX, self.target.words())
            time.sleep(0.05)

    def client(self) -> Client:
        """A ClickHouse client that is closed in the end."""
        client = connect(self.address)
        self._clients.append(client)
        return client

    def fault(self, mode: str, *, seconds: float = 0.0, count: int = 0) -> None:
        """Set ClickHouse's fault switch; a server that is down has no fault to set."""
        words = f"mode={mode}&seconds={seconds}&count={count}"
        order = Request(f"{self.clickhouse.dsn}/fault?{words}", method="POST")
        with contextlib.suppress(URLError, OSError), urlopen(order, timeout=ASK_S_MAX) as answer:
            answer.read()

    def keep(self, *, expected: tuple[int, ...] = ()) -> None:
        """Start again what ended by itself, as an operator's supervisor would, within bounds.

        An end without a word, or one that says that the configuration is wrong, is noted.
        """
        ended = self.target.noticed_end()
        if ended is None and self.target.is_running():
            return
        if ended is not None:
            self.judge_exit(expected)
        self._in_a_row = self._in_a_row + 1 if time.monotonic() - self._last_start_s < 3 else 0
        if self._in_a_row > RESTARTS_IN_A_ROW_MAX:
            raise StuckError("process that lives", 0, self.target.words())
        time.sleep(BACK_OFF_S)
        self._last_start_s = time.monotonic()
        self.target.start()

    def ready(self) -> None:
        """Make sure that it runs and listens to signals."""
        self.keep()
        self.target.wait_started()
        self.keep()

    def judge_exit(self, expected: tuple[int, ...] = ()) -> None:
        """Note the last end if it was not ours and has no reason in words."""
        last = self.target.exits[-1]
        if last.ours or last.code == 0 or last.code in expected:
            return
        if last.code < 0:
            self.unexplained.append(f"ended by signal {-last.code}, which we did not send")
        elif not has_reason(last.words):
            self.unexplained.append(f"exit {last.code} without a reason")
        elif last.code == CONFIG:
            raise StuckError("start that a setting prevents", 0, reason_of(last.words))

    def settle(self, seconds: float) -> None:
        """Let it work for a while, starting again what ends."""
        deadline_s = time.monotonic() + seconds
        while True:
            self.keep()
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                return
            time.sleep(min(left_s, 0.2))

    def settle_alive(self, seconds: float) -> None:
        """Let it work for a while, or until it ends."""
        deadline_s = time.monotonic() + seconds
        while self.target.is_running() and time.monotonic() < deadline_s:
            time.sleep(0.05)

    def mend(self) -> None:
        """Take every fault away and let the target run without one."""
        self.kafka.resume()
        if not self.clickhouse.child.alive():
            self.clickhouse.start()
        self.fault("none")
        self.clock.move(0)
        self.target.tell_workers(signal.SIGCONT)
        self.keep()

    def wait_decided(self, count: int, *, rest_s: float) -> int:
        """Wait until so many messages have a door; gives how many have one.

        Fewer when nothing moved any more for a while in which it ran.
        """
        client = self.client()
        found, moved_s = -1, time.monotonic()
        deadline_s = moved_s + DECIDED_S_MAX
        while found < count and time.monotonic() < deadline_s:
            starts = self.target.generations
            self.keep()
            if self.target.generations > starts:
                moved_s = time.monotonic()
            before, found = found, decided(client)
            if found != before:
                moved_s = time.monotonic()
            if time.monotonic() - moved_s > rest_s:
                break
            time.sleep(0.1)
        return found


def _wait_profiles(client: Client, load: Load) -> None:
    deadline_s = time.monotonic() + DECIDED_S_MAX
    while decided(client) < load.world.profile_count and not load.is_ending():
        if time.monotonic() > deadline_s:
            raise StuckError("profiles", DECIDED_S_MAX)
        time.sleep(0.1)


def decided(client: Client) -> int:
    """How many messages have a door; -1 while ClickHouse does not say."""
    try:
        return int(client.query("SELECT sum(n) FROM fates FINAL").result_rows[0][0])
    except (ClickHouseError, OSError, URLError):
        return -1


def has_reason(words: str) -> bool:
    """Whether the end of a log names the error that ended the process."""
    return any(mark in words for mark in ('"level": "error"', "airside: could not", "Error: "))


def reason_of(words: str) -> str:
    """The last line that names an error."""
    named = [line for line in words.splitlines() if has_reason(line)]
    return named[-1][-300:] if named else ""


def environment_of(
    folder: Path, servers: str, address: ClickHouseAddress, more: Mapping[str, str]
) -> dict[str, str]:
    """The target's settings: short epochs and transactions, so that little time shows much."""
    known = variables()
    wishes = {
        "AIRSIDE_WATCHDOG_S": "60",
        "AIRSIDE_RESTARTS_MAX": "1000",
        "AIRSIDE_RESTART_PAUSE_S_MAX": "0.5",
        "AIRSIDE_DRAIN_S_MAX": "15",
    }
    return child_environment(
        {
            "AIRSIDE_KAFKA__BOOTSTRAP_SERVERS": servers,
            "AIRSIDE_KAFKA__CONNECT_TRIES": "3",
            "AIRSIDE_CLICKHOUSE__URL": address.url,
            "AIRSIDE_CLICKHOUSE__DATABASE": address.database,
            "AIRSIDE_TIME__DUPLICATE_S_MAX": "86400",
            "AIRSIDE_TIME__LATENESS_S_MAX": str(GATE_LATENESS_S),
            "AIRSIDE_DATA": str(folder),
            "AIRSIDE_EPOCH_S": str(EPOCH_S),
            "AIRSIDE_QUARANTINE_KEY": KEY,
            "AIRSIDE_LOG": "json",
            **{name: value for name, value in wishes.items() if name in known},
            **more,
        }
    )


def tampered(clock: MovedClock, words: str, environment: Mapping[str, str]) -> dict[str, str]:
    """What makes a child see a clock of its own, and break itself if there are words for it."""
    paths = [str(SITE), str(ROOT), *filter(None, [environment.get("PYTHONPATH")])]
    return {CLOCK: str(clock.file), SABOTAGE: words, "PYTHONPATH": os.pathsep.join(paths)}
