"""The wish to stop, from a signal."""

from __future__ import annotations

import signal
from typing import Any

import structlog

_log = structlog.get_logger(__name__)


class Stop:
    """A flag that SIGTERM and SIGINT set: lanes stop reading, the epoch ends, the process too."""

    def __init__(self) -> None:
        self.asked = False

    def __call__(self) -> bool:
        """Tell whether to stop."""
        return self.asked

    def listen(self) -> None:
        """Take over both signals in this process."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._ask)

    def _ask(self, number: int, _frame: Any) -> None:
        if not self.asked:
            _log.info("stop_asked", signal=signal.Signals(number).name)
        self.asked = True
