"""What is kept of each person: additive counts in one slab, a row each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from itertools import repeat
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from flows.model.shapes import BINS, HOURS, Floats

Rows = NDArray[np.int64]
Singles = NDArray[np.float32]
NO_PREFERENCE: Final = -1
_FIRST_ROWS: Final = 1_024


def code_of(text: str) -> int:
    """A 64-bit number that stands for an id, the same in every process."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")


def count(column: Singles, rows: Rows, bins: Rows, times: Singles | np.float32) -> None:
    """Add to a column, also where a person comes twice. State: the column.

    The flat view is three times as fast as two indices are.
    """
    np.add.at(column.reshape(-1), rows * BINS + bins, times)


class People:
    """Rows of counts by id, with a bound.

    State: `BYTES_PER_PERSON` of counts a row, beside the id and its entry in the index. Past
    `people_max` the person who was touched longest ago goes. `changed` are rows that are other than
    when that was last taken, and `acts` who came and whose row went since, where somebody asks;
    `erased` tells that one of them went by a wish.
    """

    COLUMNS: Final = (
        ("sent", BINS, np.float32),
        ("answered", BINS, np.float32),
        ("recent_sent", BINS, np.float32),
        ("recent_answered", BINS, np.float32),
        ("activity", BINS, np.float32),
        ("recent_activity", BINS, np.float32),
    )
    BYTES_PER_PERSON: Final = sum(4 * width for _, width, _ in COLUMNS) + 1 + 8 + 8 + 1 + 4 + 1

    def __init__(self, people_max: int) -> None:
        self.people_max = people_max
        self.row_of: dict[str, int] = {}
        self.ids: list[str | None] = []
        self.free: list[int] = []
        self.clock = 0
        self.acts: list[str | int] | None = None
        self.erased = False
        self._allocate(0)

    def _allocate(self, rows: int) -> None:
        self.sent = np.zeros((rows, BINS), dtype=np.float32)
        self.answered = np.zeros((rows, BINS), dtype=np.float32)
        self.recent_sent = np.zeros((rows, BINS), dtype=np.float32)
        self.recent_answered = np.zeros((rows, BINS), dtype=np.float32)
        self.activity = np.zeros((rows, BINS), dtype=np.float32)
        self.recent_activity = np.zeros((rows, BINS), dtype=np.float32)
        self.preference = np.full(rows, NO_PREFERENCE, dtype=np.int8)
        self.code = np.zeros(rows, dtype=np.uint64)
        self.touched = np.zeros(rows, dtype=np.int64)
        self.here = np.zeros(rows, dtype=np.bool_)
        self.clustered = np.zeros(rows, dtype=np.float32)
        self.changed = np.zeros(rows, dtype=np.bool_)

    def __len__(self) -> int:
        return len(self.row_of)

    def find(self, users: Iterable[str]) -> Rows:
        """Rows of people, -1 for those who have none. State: reads only."""
        return np.fromiter(map(self.row_of.get, users, repeat(-1)), dtype=np.int64)

    def codes(self, users: Sequence[str]) -> NDArray[np.uint64]:
        """`code_of` of people, which is kept of those who are known. State: reads only."""
        rows = self.find(users)
        codes = np.zeros(len(rows), dtype=np.uint64)
        known = rows >= 0
        codes[known] = self.code[rows[known]]
        for place in np.flatnonzero(~known).tolist():
            codes[place] = code_of(users[place])
        return codes

    def claim(self, users: list[str]) -> Rows:
        """Rows of people, making those that are missing. State: may forget whom it must.

        Errors: ValueError where one block names more people than there may be.
        """
        rows = self.find(users)
        known = rows >= 0
        order = self.clock + np.arange(len(users))
        if not known.all():
            self.touched[rows[known]] = order[known]
        for place in np.flatnonzero(~known).tolist():
            user = users[place]
            rows[place] = self.row_of[user] if user in self.row_of else self._add(user)
        self.touched[rows] = order
        self.changed[rows] = True
        self.clock += len(users)
        return rows

    def _add(self, user: str, *, may_evict: bool = True) -> int:
        if may_evict and len(self.row_of) >= self.people_max:
            self._evict()
        if not self.free:
            self._grow()
        row = self.free.pop()
        self.row_of[user] = row
        self.ids[row] = user
        self.code[row] = code_of(user)
        self.touched[row] = self.clock
        self.here[row] = True
        if self.acts is not None:
            self.acts.append(user)
        return row

    def _grow(self) -> None:
        old = len(self.ids)
        new = min(max(_FIRST_ROWS, 2 * old), max(self.people_max, old + 1))
        kept = {name: getattr(self, name) for name in (*self.arrays(), "changed")}
        self._allocate(new)
        for name, values in kept.items():
            getattr(self, name)[:old] = values
        self.ids += [None] * (new - old)
        self.free += range(new - 1, old - 1, -1)

    def _evict(self) -> None:
        """Forget the thirty-second part that was touched longest ago, at least one."""
        rows = np.flatnonzero(self.here & (self.touched < self.clock))
        if not len(rows):
            message = f"could not hold people: found a block of over {self.people_max}"
            raise ValueError(message)
        share = max(1, len(self.row_of) // 32)
        oldest = rows[np.argsort(self.touched[rows], kind="stable")[:share]]
        for row in oldest.tolist():
            user = self.ids[row]
            assert user is not None
            self.forget(user)

    def forget(self, user: str) -> bool:
        """Delete a person's counts, id and place in the index. Shapes: whether there were any."""
        row = self.row_of.pop(user, None)
        if row is None:
            return False
        self.ids[row] = None
        for name in self.arrays():
            getattr(self, name)[row] = NO_PREFERENCE if name == "preference" else 0
        self.changed[row] = False
        self.free.append(row)
        if self.acts is not None:
            self.acts.append(~row)
        return True

    def act(self, act: str | int) -> None:
        """Do again what `acts` told: a person came, or the person in a row went.

        Who went for those who came is told as well, so a bound that is another now changes nothing.
        """
        if isinstance(act, str):
            self._add(act, may_evict=False)
            return
        user = self.ids[~act]
        assert user is not None
        self.forget(user)

    @classmethod
    def arrays(cls) -> tuple[str, ...]:
        """Names of all columns."""
        return (
            *(name for name, _, _ in cls.COLUMNS),
            "preference",
            "code",
            "touched",
            "here",
            "clustered",
        )

    def active(self) -> Floats:
        """How much of each row's own activity is remembered; nothing in an empty row."""
        return np.asarray(self.activity.sum(axis=1) + self.recent_activity.sum(axis=1), np.float64)

    def rhythms(self, rows: Rows) -> Floats:
        """Own activity by local hour, workdays and weekends together. Shapes: (n,) to (n, 24)."""
        both = self.activity[rows] + self.recent_activity[rows]
        return np.asarray(both.reshape(len(rows), -1, HOURS).sum(axis=1), np.float64)

    def slab(self) -> dict[str, object]:
        """Where everybody sits, for a snapshot."""
        return {"ids": self.ids, "free": self.free, "clock": self.clock}

    def restore(self, slab: dict[str, Any], rows: Rows, columns: dict[str, NDArray[Any]]) -> None:
        """Put people back where a snapshot found them."""
        self._allocate(len(slab["ids"]))
        self.ids, self.free = list(slab["ids"]), list(slab["free"])
        for name, values in columns.items():
            getattr(self, name)[rows] = values
        self.row_of = {user: row for row, user in enumerate(self.ids) if user is not None}
        self.clock = slab["clock"]
