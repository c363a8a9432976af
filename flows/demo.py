"""The whole of Airside on one machine for a while, and at the end a check of every number."""

from __future__ import annotations

import base64
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson
from rich.console import Console
from rich.live import Live
from rich.table import Table

from connectors.clickhouse.client import connect
from connectors.embedded.child import free_port
from connectors.embedded.stack import EmbeddedStack
from flows import everything
from flows.commands import apply_all_topics, export_lines, migrate_database
from flows.latency import ArrivalClock, TimedTruth
from flows.live_view import LiveView, read_metrics
from flows.settings import Settings, child_environment, read_settings
from flows.simulate import Shares, Truth, World, simulate
from flows.verify import Report, verify, wait_until_decided
from schemas.errors import PermanentError, TransientError

_LOOK_S: Final = 0.5
_LINE_S: Final = 5.0
_READY_S_MAX: Final = 60.0
_STOP_S_MAX: Final = 60.0
_LOG_LINES: Final = 5


class Outcome(NamedTuple):
    """What a demo run showed. Units: seconds, milliseconds, bytes."""

    report: Report
    elapsed_s: float
    latency_ms: dict[str, float]
    peak_bytes: int


def run_demo(
    *,
    seconds: int,
    rate: int,
    seed: int,
    shares: Shares,
    report: Path | None,
    keep: bool,
    data: Path | None,
) -> int:
    """Start the stack, send a world through it, check every number, and say how it went.

    Shapes: 0 when every number is right, 1 when one is off.
    Errors: ConfigError without the extra `local`; TransientError when a server died.
    """
    console = Console(highlight=False, soft_wrap=True)
    with ExitStack() as open_things:
        folder = data or Path(open_things.enter_context(tempfile.TemporaryDirectory("-airside")))
        console.print(f"starting the embedded stack in {folder.name}", markup=False)
        stack = open_things.enter_context(EmbeddedStack(folder))
        settings = _settings_for(stack, folder)
        apply_all_topics(settings)
        migrate_database(settings.clickhouse_address)
        world = make_world(seconds=seconds, rate=rate, seed=seed, shares=shares)
        outcome = _run(settings, stack, console, world, rate=rate)
        _print_summary(console, outcome)
        if report is not None:
            report.write_bytes(orjson.dumps(_as_json(outcome), option=orjson.OPT_INDENT_2))
        if keep:
            _keep(stack, console)
    return 1 if outcome.report.mismatches else 0


def _settings_for(stack: EmbeddedStack, folder: Path) -> Settings:
    return read_settings(
        {
            "kafka": {"bootstrap_servers": stack.bootstrap_servers},
            "clickhouse": {"url": stack.clickhouse_url},
            "data": folder,
            "epoch_s": 1.0,
            "metrics_port": free_port(),
            "quarantine_key": base64.b64encode(os.urandom(32)).decode(),
        }
    )


def as_environment(settings: Settings) -> dict[str, str]:
    """The variables that make a child read these settings, where a demo changes them."""
    assert settings.quarantine_key is not None
    return {
        "AIRSIDE_KAFKA__BOOTSTRAP_SERVERS": settings.kafka.bootstrap_servers,
        "AIRSIDE_KAFKA__DELIVERY": "at_least_once",  # the embedded broker can do no more
        "AIRSIDE_CLICKHOUSE__URL": settings.clickhouse.url,
        "AIRSIDE_DATA": str(settings.data),
        "AIRSIDE_EPOCH_S": str(settings.epoch_s),
        "AIRSIDE_METRICS_PORT": str(settings.metrics_port),
        "AIRSIDE_QUARANTINE_KEY": settings.quarantine_key.get_secret_value(),
        # Event time runs through hours while the clock runs through a minute.
        "AIRSIDE_TIME__DUPLICATE_S_MAX": "43200",
        "AIRSIDE_LOG": "json",
    }


@contextmanager
def flow_child(settings: Settings) -> Iterator[subprocess.Popen[bytes]]:
    """Run `airside run all` beside us; it drains at the end, or is killed past its time.

    Errors: PermanentError when it ended by itself, with its last words.
    """
    log = settings.data / "all.log"
    with log.open("wb") as out:
        child = subprocess.Popen(
            [sys.executable, "-m", "flows", "run", "all"],
            env=child_environment(as_environment(settings)),
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        _wait_ready(child, settings)
        yield child
        _drain(child, log)
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()


def _drain(child: subprocess.Popen[bytes], log: Path) -> None:
    child.send_signal(signal.SIGTERM)
    if child.wait(_STOP_S_MAX) != 0:
        raise _ended(child, log)


def _wait_ready(child: subprocess.Popen[bytes], settings: Settings) -> None:
    deadline_s = time.monotonic() + _READY_S_MAX
    while read_metrics(settings.metrics_port) is None:
        check_child(child, settings)
        if time.monotonic() > deadline_s:
            raise TransientError(
                do="start", kind="dataflow", name=everything.FLOW_ID, found="no answer"
            )
        time.sleep(0.1)


def check_child(child: subprocess.Popen[bytes], settings: Settings) -> None:
    """Make sure that the dataflow still runs.

    Errors: PermanentError with its exit code and the last lines of its log.
    """
    if child.poll() is not None:
        raise _ended(child, settings.data / "all.log")


def _ended(child: subprocess.Popen[bytes], log: Path) -> PermanentError:
    lines = log.read_text(errors="replace").strip().splitlines()[-_LOG_LINES:]
    return PermanentError(
        do="keep running",
        kind="dataflow",
        name=everything.FLOW_ID,
        found=f"exit code {child.returncode}",
        hint="its last words: " + " | ".join(lines),
    )


class _Sender(threading.Thread):
    """Sends the world beside the view. `sent` rises; `error` is what ended it early."""

    def __init__(
        self,
        world: World,
        settings: Settings,
        *,
        rate: int,
        truth: Truth,
        between: Callable[[], None],
    ) -> None:
        super().__init__(name="sender", daemon=True)
        self._world = world
        self._settings = settings
        self._between = between
        self._rate = rate
        self._truth = truth
        self._stopped = threading.Event()
        self.sent = 0
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            simulate(
                self._world,
                bootstrap_servers=self._settings.kafka.bootstrap_servers,
                rate=self._rate,
                truth=self._truth,
                progress=self._note,
                stop=self._stopped.is_set,
                between=self._between,
            )
        except Exception as err:  # noqa: BLE001 - the thread's outermost frame; raised by `finish`
            self.error = err

    def _note(self, sent: int) -> None:
        self.sent = sent

    def finish(self) -> None:
        """Wait for the end; raises what ended it early."""
        self._stopped.set()
        self.join()
        if self.error is not None:
            raise self.error


def make_world(*, seconds: int, rate: int, seed: int, shares: Shares) -> World:
    """A world that ends now and lasts so long at this rate; rate 0 counts as one a second."""
    total = seconds * max(rate, 1)
    return World(seed, total=total, end_ms=time.time_ns() // 1_000_000, shares=shares)


def _run(
    settings: Settings, stack: EmbeddedStack, console: Console, world: World, *, rate: int
) -> Outcome:
    truth = TimedTruth()
    view = LiveView(total=world.total)
    client = connect(settings.clickhouse_address)
    servers = settings.kafka.bootstrap_servers
    with ArrivalClock(servers) as arrivals, flow_child(settings) as child:
        began_s = time.monotonic()

        def profiles_decided() -> None:
            # The dataflow already runs, and nothing orders topics among each other.
            with_profiles = connect(settings.clickhouse_address)
            wait_until_decided(with_profiles, world.profile_count)
            with_profiles.close()

        sender = _Sender(world, settings, rate=rate, truth=truth, between=profiles_decided)
        sender.start()
        _show(console, view, sender, partial(_check_all, stack, child, settings), settings)
        sender.finish()
        wait_until_decided(client, truth.total, look=lambda: check_child(child, settings))
        elapsed_s = time.monotonic() - began_s
        last = read_metrics(settings.metrics_port)
    console.print(view.line(last, sent=sender.sent), markup=False)
    console.print("checking every message against the simulator's truth", markup=False)
    found = verify(truth, client, bootstrap_servers=servers, journeys=settings.journey)
    return Outcome(
        found, elapsed_s, arrivals.percentiles(truth.confirmed_s), last.peak_bytes if last else 0
    )


def _check_all(stack: EmbeddedStack, child: subprocess.Popen[bytes], settings: Settings) -> None:
    stack.check()
    check_child(child, settings)


def _show(
    console: Console, view: LiveView, sender: _Sender, check: Any, settings: Settings
) -> None:
    """Draw until everything is sent; one line now and then where there is no terminal."""
    told_s = time.monotonic()
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while sender.is_alive():
            time.sleep(_LOOK_S)
            check()
            reading = read_metrics(settings.metrics_port)
            if console.is_terminal:
                live.update(view.draw(reading, sent=sender.sent), refresh=True)
            elif time.monotonic() - told_s >= _LINE_S:
                told_s = time.monotonic()
                console.print(view.line(reading, sent=sender.sent), markup=False)


def _as_json(outcome: Outcome) -> dict[str, Any]:
    """The machine-readable report; these keys stay."""
    report = outcome.report
    return {
        "produced": report.produced,
        "doors": report.doors,
        "codes": report.codes,
        "facts": report.facts,
        "rollup_total": report.rollup_total,
        "journeys": report.journeys,
        "outcomes": report.outcomes,
        "mismatches": report.mismatches,
        "republished": report.republished,
        "events_per_s": round(report.produced / max(outcome.elapsed_s, 1e-9), 1),
        "latency_ms": outcome.latency_ms,
        "peak_rss_mb": round(outcome.peak_bytes / 1e6, 1),
    }


def _print_summary(console: Console, outcome: Outcome) -> None:
    report = outcome.report
    table = Table("", "", box=None, show_header=False)
    table.add_row("sent", f"{report.produced:,} messages")
    for door, count in report.doors.items():
        codes = ", ".join(
            f"{code} {n:,}" for code, n in report.codes.items() if report.door_of(code) == door
        )
        table.add_row(door, f"{count:,}  {codes}")
    table.add_row("facts", f"{report.facts:,} rows")
    table.add_row("rollup", f"{report.rollup_total:,} events in its cells")
    table.add_row("journeys", f"{report.journeys:,} rows, {report.outcomes:,} of outcomes")
    table.add_row("rate", f"{report.produced / outcome.elapsed_s:,.0f} messages a second")
    latency = outcome.latency_ms
    table.add_row("latency", f"p50 {latency['p50']:,.0f} ms, p99 {latency['p99']:,.0f} ms")
    table.add_row("peak memory", f"{outcome.peak_bytes / 1e6:,.0f} MB")
    console.print(table)
    for sentence in report.sentences:
        console.print(f"  {sentence}", markup=False)
    if report.mismatches:
        console.print(f"[bold red]{report.mismatches:,} mismatches[/]")
    else:
        console.print("[bold green]every message accounted for: 0 mismatches[/]")


def _keep(stack: EmbeddedStack, console: Console) -> None:
    done = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: done.set())
    console.print("kept running; stop with Ctrl-C. For another terminal:", markup=False)
    for line in export_lines(stack.bootstrap_servers, stack.clickhouse_url):
        console.print(line, markup=False)
    while not done.wait(1.0):
        stack.check()


def send_world(settings: Settings, world: World, *, rate: int, truth_path: Path | None) -> int:
    """Send a simulated world to the Kafka of the settings; gives the number of messages."""
    truth = Truth()
    simulate(
        world,
        bootstrap_servers=settings.kafka.bootstrap_servers,
        rate=rate,
        truth=truth,
        extra=settings.kafka.extra,
    )
    if truth_path is not None:
        truth.write(truth_path)
    return truth.total
