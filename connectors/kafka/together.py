"""End the epochs of several lanes at the same time: each end is mostly a wait for Kafka."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Final, Protocol

from connectors.courier import Courier, ThreadCourier
from schemas.errors import AirsideError

_LOOK_S: Final = 1.0
_LOOKS_MIN: Final = 5
_STOPPED_S: Final = 5.0


class Epoch(Protocol):
    """One lane's open epoch."""

    @property
    def is_open(self) -> bool:
        """Whether there is anything to end."""

    def end_epoch(self) -> None:
        """End it; raises what went wrong."""

    def stuck(self) -> AirsideError | None:
        """What to raise instead of waiting any longer for its end in another thread."""


class Together:
    """The lanes of one worker thread. When the first of them is to end, all that are open begin to.

    That is right because the engine asks for the first end only when all lanes have everything of
    their epoch. Each lane is told of its own end alone, and raises its own error. No end is waited
    for in the thread that carries it out: the client may keep that one for ever.
    `meanwhile` is called while they end.
    State: one thread for each lane that ever ended an epoch.
    """

    def __init__(
        self,
        make_courier: Callable[[], Courier] = ThreadCourier,
        *,
        meanwhile: Callable[[], None] | None = None,
    ) -> None:
        self._make_courier = make_courier
        self._meanwhile = meanwhile
        self._couriers: dict[int, Courier] = {}
        self._lanes: dict[int, Epoch] = {}
        self._ends: dict[int, Future[None]] = {}

    def add(self, lane: int, epoch: Epoch) -> None:
        """Take a lane in."""
        self._lanes[lane] = epoch

    def end(self, lane: int) -> None:
        """End this lane's epoch; returns when that is done, or raises why it could not be."""
        if lane not in self._ends:
            waiting = [
                one for one, epoch in self._lanes.items() if epoch.is_open and one not in self._ends
            ]
            if waiting:
                self._begin(waiting)
        told = self._ends.pop(lane, None)
        if told is not None:
            self._await(lane, told)

    def _await(self, lane: int, told: Future[None]) -> None:
        looks = 0
        while True:
            began_s = time.monotonic()
            done, _ = wait([told], _LOOK_S)
            if done:
                told.result()
                return
            # A process that was stopped gives the other thread time to come back first.
            looks = 0 if time.monotonic() - began_s > _STOPPED_S else looks + 1
            if looks >= _LOOKS_MIN and (error := self._lanes[lane].stuck()) is not None:
                raise error

    def _begin(self, lanes: list[int]) -> None:
        for lane in lanes:
            if lane not in self._couriers:
                self._couriers[lane] = self._make_courier()
            self._ends[lane] = self._couriers[lane].submit(self._lanes[lane].end_epoch)
        if self._meanwhile is not None:
            self._meanwhile()

    def leave(self, lane: int, seconds_max: float) -> None:
        """Take a lane out; what is under way has this long to end, and its error is another's."""
        self._lanes.pop(lane, None)
        told = self._ends.pop(lane, None)
        if told is not None:
            wait([told], seconds_max)
