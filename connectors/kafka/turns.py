"""Let the lanes of a worker thread give one after the other, so that each block leaves soonest.

The engine asks all lanes that are ready for a block, and only then hands them on, step by step:
what the first lane gave would wait in each step for what the others gave. So one lane gives, and
the rest are asked again once its block has gone all the way, and find more to give by then.
"""

from __future__ import annotations


class Turns:
    """Whose turn it is, among lanes that the engine asks in rising order, round after round.

    Promise: a lane that asks in each round waits for one block of each other lane at most; one that
    asks no more keeps nobody waiting. `rests` tells that none has given anything, or was to wait,
    since the lane that asked last had asked before.
    State: none that lasts.
    """

    def __init__(self) -> None:
        self._last = -1
        self._given = False
        self._moves = 0
        self._seen: dict[int, int] = {}
        self.rests = False
        self._asked: set[int] = set()
        self._queue: list[int] = []

    def ask(self, lane: int) -> bool:
        """Whether a lane may give now."""
        if lane <= self._last:
            self._begin_round()
        self._last = lane
        self.rests = self._seen.get(lane) == self._moves
        self._seen[lane] = self._moves
        self._asked.add(lane)
        if not self._given and (not self._queue or self._queue[0] == lane):
            del self._queue[:1]
            return True
        if lane not in self._queue:
            self._queue.append(lane)
        self._moves += 1  # it may have something
        return False

    def give(self) -> None:
        """Note that the lane that asked last gave something."""
        self._given = True
        self._moves += 1

    def _begin_round(self) -> None:
        self._queue = [lane for lane in self._queue if lane in self._asked]
        self._asked.clear()
        self._given = False
