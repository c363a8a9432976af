"""Supervise the cells of one flow: start them, watch them, start them again, stop them all.

A cell that ends is started again alone, after a pause that grows; the others go on, since cells
share nothing but the services. What a start cannot mend (a wrong setting) stops everything.
Source: research/engine section 6.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
import structlog

from connectors.crash import arm
from connectors.embedded import leash
from flows.cells import Cell, Home, Lease, Manifest, owned, replace_file, spared
from flows.redistribute import redistribute
from flows.run import shape_of
from flows.settings import PREFIX, Settings, child_environment, given_variables
from flows.stop import Stop
from schemas.errors import AirsideError, ConfigError, TransientError

_log = structlog.get_logger(__name__)

_LOOK_S: Final = 0.1
_FIRST_PAUSE_S: Final = 0.5
_DEATHS_OF_S: Final = 600.0
_HEALTHY_S: Final = 120.0
_HUNG_FACTOR: Final = 1.5
_KILL_MARGIN_S: Final = 5.0
_SIGNAL_CODES: Final = 128


class Seat:
    """One cell's place: its process, when it was last seen alive, when it may start next."""

    def __init__(self, cell: Cell, now_s: float) -> None:
        self.cell = cell
        self.process: subprocess.Popen[bytes] | None = None
        self.start_at_s = now_s
        self.failures = 0
        self.sign_ns = 0
        self.seen_s = now_s
        self.started_s = now_s

    @property
    def runs(self) -> bool:
        """Whether its process has not been seen to end."""
        return self.process is not None


class Supervisor:
    """The owner of one generation after another of a flow's cells.

    State: the lease and one line for each process end are on disk for operators.
    Errors: ConfigError when a cell says that it cannot work; TransientError when cells die too
    often.
    """

    def __init__(
        self,
        home: Home,
        settings: Settings,
        manifest: Manifest,
        *,
        steady_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._home = home
        self._settings = settings
        self._manifest = manifest
        self._steady_s = steady_s
        self._deaths: deque[float] = deque()
        self._state = "running"
        self._crash_at = settings.crash_at
        self._seats = self._make_seats()
        self.stop = Stop()

    def _make_seats(self) -> list[Seat]:
        now_s = self._steady_s()
        cells = self._manifest.cells
        return [Seat(Cell(number, cells), now_s) for number in range(cells)]

    def run(self) -> None:
        """Supervise until told to stop; then all cells have drained and ended."""
        self.stop.listen()
        arm(self._crash_at)
        self._home.wish_file.unlink(missing_ok=True)
        try:
            while not self.stop():
                self._start_due()
                self._look_after()
                self._grant_wish()
                time.sleep(_LOOK_S)
            worst = self._drain("draining")
        except BaseException:
            self._drain("draining")
            raise
        finally:
            self._say_lease("stopped")
        if worst:
            cell = self._seats[0].cell
            raise _given_up(TransientError, cell, f"exit code {worst} when told to stop")

    def _start_due(self) -> None:
        started = False
        for seat in self._seats:
            if not seat.runs and self._steady_s() >= seat.start_at_s:
                self._start(seat)
                started = True
        if started:
            self._say_lease("running")

    def _start(self, seat: Seat) -> None:
        cell, manifest = seat.cell, self._manifest
        self._home.sign(cell).unlink(missing_ok=True)
        kept = given_variables()
        kept.pop(f"{PREFIX}CRASH_AT", None)
        if cell.number == 0 and self._crash_at:
            kept[f"{PREFIX}CRASH_AT"], self._crash_at = self._crash_at, ""
        program = [sys.executable, "-m", "flows", "run", manifest.flow]
        place = [f"--cell={cell.number}/{cell.cells}", f"--generation={manifest.generation}"]
        on_leash = [sys.executable, "-I", "-S", leash.__file__, str(self._settings.drain_s_max)]
        seat.process = subprocess.Popen(  # noqa: S603 - our own program, no shell
            [*on_leash, *program, *place],
            stdin=subprocess.PIPE,
            env=child_environment(kept),
            start_new_session=True,
        )
        seat.sign_ns, seat.seen_s = 0, self._steady_s()
        seat.started_s = seat.seen_s
        _log.info("cell_started", cell=cell.number, generation=manifest.generation)

    def _look_after(self) -> None:
        for seat in self._seats:
            if seat.process is None:
                continue
            code = seat.process.poll()
            if code is not None:
                self._note_death(seat, code)
            elif self._is_hung(seat):
                _log.error("cell_hung", cell=seat.cell.number, limit_s=self._settings.watchdog_s)
                _kill(seat.process)

    def _is_hung(self, seat: Seat) -> bool:
        """Its own watchdog is deaf when a process is stopped or its machine swaps."""
        try:
            sign_ns = self._home.sign(seat.cell).stat().st_mtime_ns
        except FileNotFoundError:
            sign_ns = 0
        if sign_ns != seat.sign_ns:
            seat.sign_ns, seat.seen_s = sign_ns, self._steady_s()
            if seat.seen_s - seat.started_s > _HEALTHY_S:
                seat.failures = 0
        return self._steady_s() - seat.seen_s > self._settings.watchdog_s * _HUNG_FACTOR

    def _note_death(self, seat: Seat, code: int) -> None:
        error = self._say_exit(seat, code)
        seat.process = None
        if code == ConfigError.exit_code:
            raise _given_up(ConfigError, seat.cell, error or "exit code 78")
        now_s = self._steady_s()
        self._deaths.append(now_s)
        while self._deaths[0] < now_s - _DEATHS_OF_S:
            self._deaths.popleft()
        if len(self._deaths) > self._settings.restarts_max:
            raise _given_up(
                TransientError,
                seat.cell,
                f"{len(self._deaths)} ends in ten minutes, the last with "
                + (error or f"exit code {code}"),
            )
        pause_s = min(_FIRST_PAUSE_S * 2**seat.failures, self._settings.restart_pause_s_max)
        seat.failures = min(seat.failures + 1, 16)
        seat.start_at_s = now_s + pause_s * random.uniform(0.5, 1.0)  # noqa: S311 - spreads starts
        self._say_lease("running")

    def _say_exit(self, seat: Seat, code: int) -> str:
        """Put a process end into the exit report; gives what the process said about it."""
        assert seat.process is not None
        error = _read_error(self._home, seat.cell)
        entry = {
            "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "generation": self._manifest.generation,
            "cell": seat.cell.number,
            "pid": seat.process.pid,
            "code": code if code >= 0 else _SIGNAL_CODES - code,
            "signal": _signal_of(code),
            "error": error,
        }
        with spared("exit report"), self._home.exits_file.open("ab") as out:
            out.write(msgspec.json.encode(entry) + b"\n")
        level = _log.info if code == 0 else _log.error
        level("cell_ended", cell=seat.cell.number, code=entry["code"], error=error)
        return error

    def _grant_wish(self) -> None:
        """Rescale if somebody asked for it."""
        wish = read_wish(self._home)
        if wish is None:
            return
        try:
            if wish != self._manifest.cells:
                self._rescale(wish)
        except AirsideError as err:
            # Nothing has changed: the cells go on as they were.
            _log.error("rescale_refused", cells=wish, error=str(err))
            replace_file(self._home.refusal_file, str(err).encode())
            self._start_due()
        if read_wish(self._home) == wish:
            self._home.wish_file.unlink(missing_ok=True)

    def _rescale(self, cells: int) -> None:
        shape_of(self._manifest.flow, self._settings, cells)
        self._drain("draining")
        self._say_lease("rescaling")
        self._manifest = redistribute(self._home, self._manifest, cells)
        self._seats = self._make_seats()
        _log.info("rescaled", cells=cells, generation=self._manifest.generation)

    def _drain(self, state: str) -> int:
        """Tell all cells to stop, and wait until they have; who does not in time is killed.

        Shapes: the greatest exit code, 0 when all drained.
        """
        worst = 0
        for seat in self._seats:
            if seat.process is not None:
                seat.process.terminate()
        self._say_lease(state)
        deadline_s = self._steady_s() + self._settings.drain_s_max + _KILL_MARGIN_S
        for seat in self._seats:
            if seat.process is None:
                continue
            try:
                code = seat.process.wait(max(0.0, deadline_s - self._steady_s()))
            except subprocess.TimeoutExpired:
                _kill(seat.process)
                code = seat.process.wait()
            self._say_exit(seat, code)
            seat.process = None
            worst = max(worst, abs(code))
        return worst

    def _say_lease(self, state: str) -> None:
        children = {
            str(seat.cell.number): seat.process.pid
            for seat in self._seats
            if seat.process is not None
        }
        self._home.write_lease(
            Lease(self._manifest.generation, self._manifest.cells, os.getpid(), state, children)
        )


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a cell with its leash, stopped or not."""
    os.killpg(process.pid, signal.SIGKILL)


def _signal_of(code: int) -> str:
    number = -code if code < 0 else code - _SIGNAL_CODES
    try:
        return signal.Signals(number).name
    except ValueError:
        return ""


def _read_error(home: Home, cell: Cell) -> str:
    try:
        note: dict[str, Any] = msgspec.json.decode(home.error_file(cell).read_bytes())
    except (FileNotFoundError, msgspec.MsgspecError):
        return ""
    return str(note.get("error", ""))


def _given_up(family: type[AirsideError], cell: Cell, found: str) -> AirsideError:
    return family(
        do="keep up",
        kind="cell",
        name=str(cell.number),
        found=found,
        hint="all cells were stopped; what is written is right, and the next start goes on there",
    )


def read_wish(home: Home) -> int | None:
    """The number of cells that somebody asked the supervisor for."""
    try:
        return int(home.wish_file.read_bytes())
    except FileNotFoundError:
        return None


def supervise(name: str, settings: Settings, cells: int) -> None:
    """Run a flow in so many cells until told to stop.

    Errors: ConfigError when another owner runs it or its stores are for another number of cells.
    """
    home = Home(settings.data, name)
    with owned(home, shape_of(name, settings, cells)) as manifest:
        Supervisor(home, settings, manifest).run()
    _log.info("supervisor_stopped", flow=name)
