"""End a process that hangs, so that a supervisor can start it again.

A worker that waits for ever looks healthy from outside. What tells is the age of its last
durable epoch: when that is too old, the stacks of all threads go to the log and the process ends.
Source: research/engine section 6.
"""

from __future__ import annotations

import faulthandler
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NoReturn

import structlog

from schemas.errors import PermanentError

_log = structlog.get_logger(__name__)

_LOOK_S_MAX: Final = 1.0
_MARGIN_S: Final = 15.0


class Watchdog:
    """Ends this process when nothing became durable for `limit_s`.

    `beat` says that the work goes on: an epoch became durable, or a wait that has its own bound
    was taken up again. It touches `sign`, a file by which a supervisor sees the same from outside,
    also of a process that was stopped.
    Should the interpreter itself hang, so that not even this thread runs, the fault handler's
    timer ends the process a little later, with code 1.
    """

    def __init__(
        self,
        *,
        limit_s: float,
        sign: Path | None = None,
        steady_s: Callable[[], float] = time.monotonic,
        end: Callable[[int], NoReturn] = os._exit,
    ) -> None:
        self._limit_s = limit_s
        self._sign = sign
        self._steady_s = steady_s
        self._end = end
        self._beat_s = steady_s()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def start(self) -> None:
        """Begin to watch; the sign appears with the first beat."""
        self._wind_up()
        self._thread.start()

    def beat(self) -> None:
        """Note that the work goes on."""
        self._wind_up()
        if self._sign is not None:
            self._sign.touch()

    def _wind_up(self) -> None:
        self._beat_s = self._steady_s()
        faulthandler.dump_traceback_later(
            self._limit_s + _MARGIN_S, exit=True, file=sys.__stderr__ or sys.stderr
        )

    def stop(self) -> None:
        """Watch no longer."""
        self._stopped.set()
        faulthandler.cancel_dump_traceback_later()

    @property
    def age_s(self) -> float:
        """Seconds since the last beat."""
        return self._steady_s() - self._beat_s

    def _run(self) -> None:
        while not self._stopped.wait(min(_LOOK_S_MAX, self._limit_s / 4)):
            self.look()

    def look(self) -> None:
        """End the process if its last beat is too old."""
        if self.age_s <= self._limit_s:
            return
        error = PermanentError(
            do="go on",
            kind="process",
            found=f"nothing durable for {self.age_s:.0f} s",
            expected=f"an epoch within {self._limit_s:.0f} s (AIRSIDE_WATCHDOG_S)",
            hint="the stacks of all threads are in the log; the epoch is repeated at the next "
            "start",
        )
        _log.error("watchdog_ended_process", error=str(error))
        faulthandler.dump_traceback(file=sys.__stderr__ or sys.stderr, all_threads=True)
        self._end(PermanentError.exit_code)
