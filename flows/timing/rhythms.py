"""Do people differ in their hours? What each got and answered by hour of the day, and looks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec
import numpy as np

from flows.model.evidence.clusters import ClusterLooks, cluster_log_e
from flows.timing.feedback import Lesson

HOURS: Final = 24
PEOPLE_MAX: Final = 5_000
"""People of a lane that are looked at: the first to come. 2,000 with 50 sends each are enough."""

FIRST_SENDS: Final = 500
GROWTH: Final = 1.5
"""A look is taken at so many times the sends of the one before, since each costs evidence."""


class Rhythms:
    """One lane's counts by person and hour, and what its looks added up to.

    State: 96 bytes a person and the id, at most `PEOPLE_MAX`; outcomes of others are passed over.
    """

    def __init__(self, people_max: int = PEOPLE_MAX) -> None:
        self._people_max = people_max
        self._rows: dict[str, int] = {}
        self._counts = np.zeros((0, 2, HOURS), np.uint16)
        self._looked_at = 0
        self.looks = ClusterLooks()

    def add(self, lessons: Iterable[Lesson]) -> None:
        """Take in outcomes, at the hour in which they were really sent."""
        for lesson in lessons:
            row = self._row_of(lesson.send.subject)
            if row < 0:
                continue
            sends, answers = self._counts[row, :, lesson.send.sent_slot % HOURS]
            if lesson.corrects and answers >= sends:
                continue  # the negative was never counted: before this person was looked at
            self._counts[row, :, lesson.send.sent_slot % HOURS] += np.array(
                [not lesson.corrects, lesson.responded], np.uint16
            )

    def _row_of(self, subject: str) -> int:
        row = self._rows.get(subject, -1)
        if row < 0 and len(self._rows) < self._people_max:
            row = self._rows[subject] = len(self._rows)
            if row >= len(self._counts):
                more = np.zeros((max(64, row), 2, HOURS), np.uint16)
                self._counts = np.concatenate([self._counts, more])
        return row

    def look(self) -> ClusterLooks:
        """Take a look where there is enough that is new; gives what all looks add up to."""
        counts = self._counts[: len(self._rows)]
        sends = int(counts[:, 0].sum())
        if sends >= max(FIRST_SENDS, math.ceil(self._looked_at * GROWTH)):
            self._looked_at = sends
            log_e = cluster_log_e(counts[:, 0], counts[:, 1])
            if math.isfinite(log_e):  # one that is not would stay in all sums
                self.looks = self.looks.look(log_e)
        return self.looks

    def forget(self, subject: str) -> None:
        """Delete a person; the last one takes the place."""
        row = self._rows.pop(subject, None)
        if row is None:
            return
        last = len(self._rows)
        if row < last:
            mover = next(name for name, place in self._rows.items() if place == last)
            self._rows[mover] = row
            self._counts[row] = self._counts[last]
        self._counts[last] = 0

    def dump(self) -> dict[str, Any]:
        """The state as plain values."""
        return {
            "subjects": [name for name, _ in sorted(self._rows.items(), key=lambda pair: pair[1])],
            "counts": self._counts[: len(self._rows)].tobytes(),
            "looked_at": self._looked_at,
            "looks": [self.looks.looks, self.looks.log_e],
        }

    def load(self, dumped: dict[str, Any]) -> None:
        """Take back what `dump` gave."""
        self._rows = {subject: row for row, subject in enumerate(dumped["subjects"])}
        counts = np.frombuffer(dumped["counts"], np.uint16)
        self._counts = counts.reshape(-1, 2, HOURS).copy()
        self._looked_at = dumped["looked_at"]
        self.looks = ClusterLooks(*dumped["looks"])


def together(lanes: Sequence[ClusterLooks]) -> ClusterLooks:
    """What the looks of all lanes say together: as one, and as each for itself.

    A lane's sum only rises, and its mean is at most 1 without clusters; so is that of half of 1
    and half of it, whose product over lanes is as safe, since lanes share no person. The product
    is strong where each lane finds a little, the mean where one finds much; half the stake goes
    to each.

    >>> together([]).exist(0.05), together([ClusterLooks(1, 20.0)]).exist(0.05)
    (False, True)
    """
    count = sum(one.looks for one in lanes)
    if not count:
        return ClusterLooks()
    sums = np.array([one.log_e for one in lanes])
    product = float((np.logaddexp(0.0, sums) - math.log(2)).sum())
    mean = float(np.logaddexp.reduce(sums)) - math.log(len(sums))
    return ClusterLooks(count, float(np.logaddexp(product, mean)) - math.log(2))


NO_LOOKS: Final[tuple[int, float]] = msgspec.structs.astuple(ClusterLooks())
