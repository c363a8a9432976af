"""Bytewax's own cluster as one process: `python -m tests.chaos.cluster FLOW STORE`.

There is no supervisor in a cluster: what runs its processes ends all of them with the first, and
starts all again. This does the first half, and the suite the other one. Signals to stop are handed
on; who kills this process kills the cluster. Its end is that of a process that was killed, if one
was; 0 if all ended so; else the code of the first that did not.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

from bytewax.recovery import init_db_dir

from connectors.embedded.child import free_port

PROCESSES: Final = 2
PEERS_S_MAX: Final = 60.0
_DIE_WITH_PARENT: Final = 1


def _leash() -> None:
    """In the child: end when the parent does."""
    ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)


def _start(flow: str, store: Path) -> list[subprocess.Popen[bytes]]:
    addresses = ";".join(f"127.0.0.1:{free_port()}" for _ in range(PROCESSES))
    options = ["-a", addresses, "-r", str(store), "-s", "1", "-b", "0"]
    command = [sys.executable, "-m", "bytewax.run", f"flows.cluster:{flow}()"]
    return [
        subprocess.Popen(
            [*command, "-i", str(number), *options],
            preexec_fn=_leash,  # noqa: PLW1509 - this process has one thread
        )
        for number in range(PROCESSES)
    ]


def _wait(children: list[subprocess.Popen[bytes]]) -> list[int]:
    """The codes of all; those that outlive a peer for too long are killed, which is -SIGABRT."""
    deadline_s = float("inf")
    stuck = False
    while any(child.poll() is None for child in children):
        if any(child.poll() is not None for child in children):
            deadline_s = min(deadline_s, time.monotonic() + PEERS_S_MAX)
        if time.monotonic() > deadline_s:
            stuck = True
            for child in children:
                child.kill()
        time.sleep(0.05)
    return [-signal.SIGABRT] if stuck else [child.returncode for child in children]


def _verdict(codes: list[int]) -> int:
    if -signal.SIGKILL in codes:
        return -signal.SIGKILL
    return next((code for code in codes if code), 0)


def main() -> int:
    """Run the cluster once."""
    flow, store = sys.argv[1], Path(sys.argv[2])
    if not store.exists():
        store.mkdir(parents=True)
        init_db_dir(store, PROCESSES)
    children: list[subprocess.Popen[bytes]] = []

    def hand_on(number: int, _frame: Any) -> None:
        for child in children:
            if child.poll() is None:
                child.send_signal(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, hand_on)
    children += _start(flow, store)
    code = _verdict(_wait(children))
    if code < 0:
        signal.signal(-code, signal.SIG_DFL) if code != -signal.SIGKILL else None
        os.kill(os.getpid(), -code)
    return code


if __name__ == "__main__":
    sys.exit(main())
