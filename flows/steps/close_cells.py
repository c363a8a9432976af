"""Tell how far a lane's rollup cells are closed, so that others may correct them."""

from __future__ import annotations

from schemas.blocks import Rows
from schemas.rollup import MINUTE_MS


class ClosedCells:
    """The floor of one lane: the lane writes no cell of an earlier minute any more.

    A floor is told with the first new messages after the snapshot that holds it. Told at once, a
    crash could bring the lane back to a lower floor, and to events for cells that others took
    for closed.
    State: none of its own; the gate's snapshot holds the floor.
    """

    def __init__(self) -> None:
        self._kept = 0
        self._told = 0

    def keep(self, minute: int) -> None:
        """Note the floor that a snapshot holds. Units: minutes since 1970."""
        self._kept = minute

    def rows(self, lane: int) -> list[Rows]:
        """The row of `rollup_floors`, if there is anything new to tell."""
        if self._kept <= self._told:
            return []
        self._told = self._kept
        columns = {"lane": [lane], "floor": [self._kept * MINUTE_MS], "ver": [self._kept]}
        return [Rows("rollup_floors", 1, columns)]
