"""Run one program on a leash: it ends when whoever holds our standard input ends, even by SIGKILL.

Run by path, `python -I -S leash.py SECONDS PROGRAM ARGUMENT...`, so that it starts in a few
milliseconds and works for any program. The pipe is the leash on Linux and macOS. On Linux the
kernel also ends the program when this process is killed; that call follows the *thread* that
asked for it, so it is made here, where there is only one, and not in the caller.
A caller that forks without exec passes its end of the pipe on: use spawn.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
import time
from pathlib import Path
from typing import Final

PR_SET_PDEATHSIG: Final = 1
POLL_S: Final = 5.0  # only a backstop: the pipe and SIGCHLD wake us at once
NO_SUCH_PROGRAM: Final = 127
NOT_EXECUTABLE: Final = 126


def _become(argv: list[str], leash_pid: int) -> None:
    """Turn this forked process into the program; returns only by exiting."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != leash_pid:  # the leash was killed before the call above
            os._exit(1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        os.execv(argv[0], argv)  # noqa: S606 - the caller names the program, no shell is wanted
    except FileNotFoundError:
        os._exit(NO_SUCH_PROGRAM)
    except OSError as error:
        os.write(2, f"could not execute {Path(argv[0]).name}: {error.strerror}\n".encode())
        os._exit(NOT_EXECUTABLE)


def _wait(pid: int, wake: int, told: list[int], stop_s_max: float) -> int:
    """Wait for the program; told to stop, or with the pipe ended, it has a bounded time."""
    watched, kill_at = [0, wake], float("inf")
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if told and kill_at == float("inf"):
            os.kill(pid, signal.SIGTERM)
            kill_at = time.monotonic() + stop_s_max
        pause = max(0.0, min(POLL_S, kill_at - time.monotonic()))
        ready = select.select(watched, [], [], pause)[0]
        if wake in ready:
            os.read(wake, 512)
        if 0 in ready and not os.read(0, 512):
            watched.remove(0)
            told.append(signal.SIGTERM)
        if time.monotonic() >= kill_at:
            os.kill(pid, signal.SIGKILL)


def main() -> int:
    """Run the program and hand back its exit code, 128 + number for one ended by a signal."""
    stop_s_max, argv = float(sys.argv[1]), sys.argv[2:]
    wake, waker = os.pipe()
    for end in (wake, waker):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(waker)
    told: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: told.append(number))
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    leash_pid = os.getpid()
    pid = os.fork()
    if pid == 0:
        _become(argv, leash_pid)
    code = _wait(pid, wake, told, stop_s_max)
    return 128 - code if code < 0 else code


if __name__ == "__main__":
    sys.exit(main())
