"""A wheel of timers in event time: what is due by a time, without looking at all the rest."""

from __future__ import annotations

from heapq import heappop, heappush
from typing import Final

_SLOT_MS: Final = 60_000


class Wheel:
    """Keys by the minute in which they are due.

    State: none of its own: it is made again from what it points to. A key may be in it at an
    earlier minute than it is due, and more than once; whoever takes it looks when it is due.
    """

    def __init__(self) -> None:
        self._slots: dict[int, list[str]] = {}
        self._order: list[int] = []

    def add(self, key: str, due_ms: int) -> None:
        """Wake a key at a time."""
        slot = due_ms // _SLOT_MS
        keys = self._slots.get(slot)
        if keys is None:
            self._slots[slot] = [key]
            heappush(self._order, slot)
        else:
            keys.append(key)

    def take(self, now_ms: int) -> list[str]:
        """All keys of the minutes that have begun, each once, in the order of their names."""
        slot = now_ms // _SLOT_MS
        found: set[str] = set()
        while self._order and self._order[0] <= slot:
            found.update(self._slots.pop(heappop(self._order)))
        return sorted(found)
