"""When a lane has read its tables up, and may go on to its streams."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from connectors.kafka.lane_state import Place

_REST_S: Final = 0.25

REST_S_MAX: Final = 2.0
"""Streams wait so long, and no longer, for tables to rest that go on being written."""


class Loading:
    """What tables held when the lane began, and since when they rest.

    Promise: over once all that was there is read and nothing came for a moment; what other lanes
    publish meanwhile, such as models, holds the streams up for `REST_S_MAX` at most.
    Units: seconds of a steady clock.
    """

    def __init__(self, ends: dict[Place, int], now_s: float) -> None:
        self._ends = ends
        self._moved_s = now_s
        self._read_up_s: float | None = None

    def note_moved(self, now_s: float) -> None:
        """Note that something came."""
        self._moved_s = now_s

    def note_unseen(self, now_s: float) -> None:
        """Note that nobody looked: what came meanwhile is not known."""
        self._moved_s = now_s
        self._read_up_s = None

    def is_over(self, is_read: Callable[[Place, int], bool], now_s: float) -> bool:
        """Tell whether the streams may begin; `is_read` tells it of one place and its end."""
        if not all(is_read(place, end) for place, end in self._ends.items()):
            return False
        if self._read_up_s is None:
            self._read_up_s = now_s
        return now_s - self._moved_s >= _REST_S or now_s - self._read_up_s >= REST_S_MAX
