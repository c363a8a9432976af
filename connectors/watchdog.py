"""End a process that hangs, so that a supervisor can start it again.

A worker that waits for ever looks healthy from outside. What tells is the age of its last
durable epoch: when that is too old, the stacks of all threads go to the log and the process ends.
A clock that is set back is known to end in such a wait: the engine measures epochs, and when to
look for input, by the time of day, and stands still until that time has come again.
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

from schemas.errors import AirsideError, PermanentError, TransientError

_log = structlog.get_logger(__name__)

_LOOK_S_MAX: Final = 1.0
_MARGIN_S: Final = 15.0
_BACK_S_MAX: Final = 10.0
"""A clock that is set back by less is waited for: a start takes about as long."""


class Watchdog:
    """Ends this process when nothing became durable for `limit_s`, or the clock was set back.

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
        say: Callable[[str], None] = lambda _error: None,
        steady_s: Callable[[], float] = time.monotonic,
        now_s: Callable[[], float] = time.time,
        end: Callable[[int], NoReturn] = os._exit,
    ) -> None:
        self._limit_s = limit_s
        self._sign = sign
        self._say = say
        self._steady_s = steady_s
        self._now_s = now_s
        self._end = end
        self._beat_s = steady_s()
        self._ahead_s = now_s() - steady_s()
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
        """End the process if its last beat is too old, or the engine waits for an old time."""
        before_s, self._ahead_s = self._ahead_s, self._now_s() - self._steady_s()
        if before_s - self._ahead_s > _BACK_S_MAX:
            self._end_with(_set_back(before_s - self._ahead_s))
        elif self.age_s > self._limit_s:
            faulthandler.dump_traceback(file=sys.__stderr__ or sys.stderr, all_threads=True)
            self._end_with(_hung(self.age_s, self._limit_s))

    def _end_with(self, error: AirsideError) -> None:
        _log.error("watchdog_ended_process", error=str(error))
        self._say(str(error))
        self._end(error.exit_code)


def _set_back(seconds: float) -> AirsideError:
    return TransientError(
        do="go on",
        kind="process",
        found=f"the clock of this machine {seconds:.0f} s back",
        expected="a clock that is never set back by much, as a time service keeps it",
        hint="until the old time has come again the engine would do nothing; the epoch is "
        "repeated at the next start",
    )


def _hung(age_s: float, limit_s: float) -> AirsideError:
    return PermanentError(
        do="go on",
        kind="process",
        found=f"nothing durable for {age_s:.0f} s",
        expected=f"an epoch within {limit_s:.0f} s (AIRSIDE_WATCHDOG_S)",
        hint="the stacks of all threads are in the log; the epoch is repeated at the next start",
    )
