"""When a lane has read its tables up, and may go on to its streams."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from connectors.kafka.lane_state import Place

_REST_S: Final = 0.25

_LOOK_S_MAX: Final = 0.5

REST_S_MAX: Final = 2.0
"""So long a lane looks on while tables that it has read up go on being written."""


class Loading:
    """What tables held when the lane began, and since when they rest.

    Promise: over once all that was there is read and nothing came for a moment; what other lanes
    publish meanwhile, such as models, holds the streams up for `REST_S_MAX` of looking at most.
    Units: seconds of a steady clock.
    """

    def __init__(self, ends: dict[Place, int], now_s: float) -> None:
        self._ends = ends
        self._moved_s = now_s
        self._looked_s = now_s
        self._waited_s: float | None = None

    def note_moved(self, now_s: float) -> None:
        """Note that something came, or that nobody looked."""
        self._moved_s = now_s

    def note_look(self, now_s: float) -> None:
        """Note that the lane looks for more. Time in which it does not counts for little."""
        if self._waited_s is not None:
            self._waited_s += min(now_s - self._looked_s, _LOOK_S_MAX)
        self._looked_s = now_s

    def is_over(self, is_read: Callable[[Place, int], bool], now_s: float) -> bool:
        """Tell whether the streams may begin; `is_read` tells it of one place and its end."""
        if not all(is_read(place, end) for place, end in self._ends.items()):
            self._waited_s = None
            return False
        if self._waited_s is None:
            self._waited_s = 0.0
        return now_s - self._moved_s >= _REST_S or self._waited_s >= REST_S_MAX
