"""What messages have to agree on with others: types in an order, and values that stay."""

from __future__ import annotations

from typing import Any, Final

from flows.quality.cells import Cells, Key
from schemas.ticket import hash64

_WAITING_MAX: Final = 8
"""Failures of one notification that may still be taken back; the first ones."""


class Agreement:
    """One lane's memory of notifications and of constant values.

    State: for each rule and notification whether the earlier type was seen, and which failures
    it takes back if it comes late. `remembered_max` of both; the oldest go first.
    """

    def __init__(self, cells: Cells, *, remembered_max: int) -> None:
        self._cells = cells
        self._max = remembered_max
        self._seen: dict[tuple[int, int], tuple[int, list[Key]]] = {}
        self._values: dict[tuple[int, str], str] = {}

    def came(self, rule: int, notification: str, minute: int) -> None:
        """The earlier type came: what failed for its absence did not."""
        where = (rule, hash64(notification.encode()))
        old = self._seen.pop(where, None)
        for key in old[1] if old else ():
            self._cells.correct(key, rule)
        self._remember(where, minute, [])

    def misses(self, rule: int, notification: str, key: Key) -> bool:
        """The later type came: tell whether the earlier one is missing so far."""
        where = (rule, hash64(notification.encode()))
        old = self._seen.get(where)
        if old is None:
            self._remember(where, key.minute, [key])
            return True
        waiting = old[1]
        if waiting and len(waiting) < _WAITING_MAX:
            waiting.append(key)
        return bool(waiting)

    def _remember(self, where: tuple[int, int], minute: int, waiting: list[Key]) -> None:
        self._seen[where] = (minute, waiting)
        if len(self._seen) > self._max:
            self._seen.pop(next(iter(self._seen)))

    def differs(self, rule: int, name: str, value: str) -> bool:
        """Tell whether a value is another one than that first seen with this name."""
        where = (rule, name)
        first = self._values.get(where)
        if first is None:
            if len(self._values) < self._max:
                self._values[where] = value
            return False
        return first != value

    def drop_before(self, minute: int) -> None:
        """Forget what no event can need any more, from the front, where the oldest are."""
        while self._seen:
            where = next(iter(self._seen))
            if self._seen[where][0] >= minute:
                return
            del self._seen[where]

    def dump(self) -> dict[str, Any]:
        """A copy, for a snapshot."""
        seen = [[*where, minute, waiting] for where, (minute, waiting) in self._seen.items()]
        return {"seen": seen, "values": [[*where, v] for where, v in self._values.items()]}

    def load(self, dumped: dict[str, Any]) -> None:
        """Take back what `dump` gave."""
        self._seen = {
            (rule, event): (minute, [Key(*key) for key in waiting])
            for rule, event, minute, waiting in dumped["seen"]
        }
        self._values = {(rule, name): value for rule, name, value in dumped["values"]}
