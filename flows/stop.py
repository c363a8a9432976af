"""The wish to stop, from a signal."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from typing import Any, Final

import structlog

_log = structlog.get_logger(__name__)

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
_TAKEN_UP_S_MAX: Final = 3.0


class Stop:
    """A flag that SIGTERM and SIGINT set: lanes stop reading, the epoch ends, the process too."""

    def __init__(self) -> None:
        self.asked = False
        self.looked_at = False

    def __call__(self) -> bool:
        """Tell whether to stop."""
        self.looked_at = True
        return self.asked

    def listen(self) -> None:
        """Take over both signals in this process."""
        for number in _SIGNALS:
            signal.signal(number, self._ask)

    def listen_from_aside(self) -> None:
        """End this process when a signal comes before the main thread can take it up.

        While the processes of a cluster wait for each other the engine holds the main thread, so
        no handler runs, for as long as one of them is missing. Nothing was read until then, so
        there is nothing to drain.
        """
        ear, mouth = socket.socketpair()
        mouth.setblocking(False)
        signal.set_wakeup_fd(mouth.fileno(), warn_on_full_buffer=False)
        threading.Thread(
            target=self._listen_at, args=(ear, mouth), name="signals", daemon=True
        ).start()

    def _listen_at(self, ear: socket.socket, _mouth: socket.socket) -> None:
        while not set(ear.recv(64)) & set(_SIGNALS):
            pass
        time.sleep(_TAKEN_UP_S_MAX)
        if not (self.asked or self.looked_at):
            _log.info("stopped_before_start")
            os._exit(0)

    def _ask(self, number: int, _frame: Any) -> None:
        if not self.asked:
            _log.info("stop_asked", signal=signal.Signals(number).name)
        self.asked = True
