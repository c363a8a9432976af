"""How many messages the lanes of a process take up in one epoch, and what waiting for it means.

What a message becomes is held until its epoch ends: records of an open transaction, rows, changed
cells. So memory grows with what an epoch brings, and in a backlog that is all there is time for.
"""

from __future__ import annotations

from connectors.metrics import FULL, STALL


class EpochBound:
    """The messages that the lanes of a process may still take up in this epoch, all together.

    They are shared as lanes ask, not in fixed parts: one that is far behind alone may have all.
    A lane that has nothing left waits for the end of the epoch, which the engine brings by time:
    Bytewax 0.21 has no way to end one sooner.
    State: none that lasts; a start begins with the whole bound.
    """

    def __init__(self, messages_max: int) -> None:
        self._messages_max = messages_max
        self._taken = 0
        self._ended = False

    @property
    def left(self) -> int:
        """How many may still be taken up."""
        return max(self._messages_max - self._taken, 0)

    def take(self, messages: int) -> None:
        """Note what a lane took up: a block that is given again is whole, even past the bound."""
        self._taken += messages

    def end(self) -> None:
        """Note that a lane's epoch ended. What others still take up belongs to that one, too."""
        self._ended = True

    def begin(self) -> None:
        """Begin anew when the first lane does: the engine asks it only once all have ended."""
        if self._ended:
            self._ended = False
            self._taken = 0


class LaneEpoch:
    """One lane's epoch. Units: `now_s` of a steady clock."""

    def __init__(self, bound: EpochBound, lane: int) -> None:
        self.bound = bound
        self._lane = str(lane)
        self._full_s: float | None = None
        self._ended_s: float | None = None

    def wait(self, now_s: float) -> None:
        """Note that nothing is read, since there is nothing left to take up."""
        if self._full_s is None:
            self._full_s = now_s

    def end(self, now_s: float) -> None:
        """Note that the engine ended it, and saves what it was."""
        self._ended_s = now_s
        self.bound.end()

    def begin(self, now_s: float) -> float | None:
        """Begin the next one if one ended: the engine asks for more once that is durable.

        Units: gives the seconds for which the lane read nothing because it was full; None when
        the epoch still runs.
        """
        if self._ended_s is None:
            return None
        self.bound.begin()
        STALL.labels(self._lane).observe(now_s - self._ended_s)
        waited_s = 0.0
        if self._full_s is not None:
            FULL.labels(self._lane).inc(self._ended_s - self._full_s)
            waited_s = now_s - self._full_s
        self._full_s = self._ended_s = None
        return waited_s
