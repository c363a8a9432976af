"""Have things done by a thread of their own, one after the other."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Protocol


class Courier(Protocol):
    """Who carries out what is handed over, one thing after the other."""

    def submit(self, act: Callable[[], None]) -> Future[None]:
        """Take something over; the answer tells when it is done, or why it failed."""
        ...


class ThreadCourier:
    """A courier with a thread of its own, which keeps no process from ending."""

    def __init__(self) -> None:
        self._acts: queue.SimpleQueue[tuple[Callable[[], None], Future[None]]]
        self._acts = queue.SimpleQueue()
        threading.Thread(target=self._run, name="courier", daemon=True).start()

    def submit(self, act: Callable[[], None]) -> Future[None]:
        """Take something over."""
        told: Future[None] = Future()
        self._acts.put((act, told))
        return told

    def _run(self) -> None:
        while True:
            act, told = self._acts.get()
            try:
                act()
            except BaseException as err:  # noqa: BLE001 - who waits for the answer raises it
                told.set_exception(err)
            else:
                told.set_result(None)
