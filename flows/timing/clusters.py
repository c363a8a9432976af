"""Clusters of a lane's people by their rhythm of the day: learned at looks, told as rows."""

from __future__ import annotations

from typing import Any, Final

import msgspec
import numpy as np

from flows.model.clusters import CLUSTERS, RhythmClusters
from flows.model.people import People
from flows.model.people import Rows as Places
from flows.model.shapes import Floats
from flows.timing.calendar import DAY_MS
from schemas.blocks import Rows

FIRST: Final = 5
"""Activities from which a person has a rhythm: fewer tell nothing."""

GROWTH: Final = 2.0
"""A person is learned again at so many times the activity of the time before."""

LOOK_MAX: Final = 500
"""People whose rhythm one look learns, about 45 µs each; the others wait for the next one."""

_BLOCK: Final = 4_096
_DIGITS: Final = 4


class Groups(msgspec.Struct, frozen=True):
    """What the clusters of a lane are at one time.

    Shapes: `hours` (clusters, 24) shares of activity by local hour, each row adds up to one; the
    others (clusters,): people nearest to it, those of them who were sent anything, what they were
    sent, and what they answered.
    """

    hours: Floats
    people: Floats
    reached: Floats
    sends: Floats
    responses: Floats


class LaneClusters:
    """River's clusters of one lane, and who is learned next.

    State: `RhythmClusters`, and the place in the slab where the last look ended. What was learned
    of whom is one number a person in the slab, which goes with the person.
    Delivery: the same slabs at the same looks give the same clusters to the byte.
    """

    def __init__(self, *, seed: int) -> None:
        self._clusters = RhythmClusters(seed=seed)
        self._place = 0

    @property
    def learned(self) -> int:
        """Rhythms learned so far."""
        return self._clusters.learned

    @property
    def version(self) -> int:
        """Rhythms that the centroids were learned from."""
        return self._clusters.version

    def look(self, people: People) -> None:
        """Learn the rhythms of those whose activity has doubled since; at most `LOOK_MAX` of them.

        State: notes in `people.clustered` how much of each was learned. A past that the model has
        forgotten lowers that, so that a new habit is learned soon.
        """
        active = people.active()
        people.changed |= people.clustered > active
        np.minimum(people.clustered, active, out=people.clustered, casting="same_kind")
        due = np.flatnonzero(active >= np.maximum(FIRST, GROWTH * people.clustered))
        due = np.concatenate([due[due >= self._place], due[due < self._place]])[:LOOK_MAX]
        if not len(due):
            return
        self._clusters.learn(people.rhythms(due))
        people.clustered[due] = active[due]
        people.changed[due] = True
        self._place = int(due[-1]) + 1

    def groups(self, people: People) -> Groups | None:
        """Everybody with a rhythm at the nearest centroid; None before there is a centroid.

        State: reads only.
        """
        hours = self._clusters.centroids()
        if not len(hours):
            return None
        sums = np.zeros((4, len(hours)))
        rows = np.flatnonzero(people.active() >= FIRST)
        for start in range(0, len(rows), _BLOCK):
            sums += self._sums_of(people, rows[start : start + _BLOCK])
        return Groups(hours, *sums)

    def _sums_of(self, people: People, rows: Places) -> Floats:
        nearest = self._clusters.nearest(people.rhythms(rows))
        sent = people.sent[rows].sum(axis=1) + people.recent_sent[rows].sum(axis=1)
        answered = people.answered[rows].sum(axis=1) + people.recent_answered[rows].sum(axis=1)
        return np.stack(
            [
                np.bincount(nearest, values, minlength=CLUSTERS)
                for values in (np.ones(len(rows)), sent > 0, sent, answered)
            ]
        )

    def dump(self) -> dict[str, Any]:
        """The state as plain values."""
        return {"clusters": self._clusters.dump(), "place": self._place}

    def load(self, dumped: dict[str, Any]) -> None:
        """Take back what `dump` gave.

        Errors: UnreadableStateError for clusters of another version.
        """
        self._clusters = RhythmClusters.load(dumped["clusters"])
        self._place = dumped["place"]


def cluster_rows(
    groups: Groups, *, lane: int, at_ms: int, learned: int, people_min: int, kept_s: int
) -> Rows:
    """One row for each cluster, by the hour of its peak; what is about too few people says nothing.

    Those have the last numbers and no people, so that they replace what was told there before.
    Nor is told what was sent to too few of many.
    Units: `kept_s` is how long after `at_ms` a row may stay.
    Delivery: safe to repeat; `ver` is the time of the data.
    """
    least = max(people_min, 1)
    told = np.flatnonzero(groups.people >= least)
    told = told[np.argsort(groups.hours[told].argmax(axis=1), kind="stable")]
    count = len(groups.hours)
    empty = [0] * (count - len(told))
    enough = (groups.reached >= least)[told]
    columns: dict[str, Any] = {
        "lane": [lane] * count,
        "cluster": list(range(1, count + 1)),
        "at": [at_ms] * count,
        "learned": [learned] * count,
        "people": [*_whole(groups.people[told]), *empty],
        "sends": [*_whole(groups.sends[told] * enough), *empty],
        "responses": [*_whole(groups.responses[told] * enough), *empty],
        "hours": [*groups.hours[told].round(_DIGITS).tolist(), *([] for _ in empty)],
        "expires_at": [(at_ms + kept_s * 1_000) // DAY_MS + 1] * count,
        "ver": [at_ms] * count,
    }
    return Rows("rhythm_clusters", count, columns)


def _whole(sums: Floats) -> list[int]:
    """Sums as counts: a model that forgets a share of the past keeps fractions."""
    return [round(value) for value in sums.tolist()]
