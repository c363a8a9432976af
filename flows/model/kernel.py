"""What a native library may do in place of numpy: a sweep over some people, in one call."""

from __future__ import annotations

from typing import Any, Final, Protocol

import numpy as np

from flows.model.change import LOG_PRIOR, doubted_shares, shares_of_change
from flows.model.people import People, Rows
from flows.model.population import Curves, Sums
from flows.model.shapes import BINS, EVERYONE, Floats, in_rhythm
from flows.model.tuning import Tuning

_FOUND: Final = 4


class Kernel(Protocol):
    """Adds to sums what people tell of the population, and closes their windows.

    Promise: the same as `flows.model.sweeping` does, to six digits. What is found of a person
    depends on nobody who is looked at together with it, but for how likely it has changed.
    It may find numbers where counts or curves are none (NaN), and numpy finds none.
    State: `counts` and `sums` are written, windows once for each time that a row is named. Tables
    are not read again while they are the same tuple.
    Errors: ValueError for arrays of another kind or size, before anything is written.
    """

    def __call__(  # noqa: PLR0917 - a C function's, which has no names
        self,
        tables: tuple[Floats, ...],
        numbers: tuple[float, ...],
        shares: tuple[Floats, Floats, Floats],
        counts: tuple[Any, ...],
        rows: Rows,
        sums: tuple[Floats, ...],
        found: Floats,
        /,
    ) -> None:
        """Sweep over the people in these rows.

        Shapes: `shares` of people that may have changed, the same doubted, and logarithms of how
        likely each is.
        `found` gets (n, 4): log likelihood of all that is known, the evidence of a change,
        how likely there was one, and whether the recent window was full (1) and compared (2).
        """


def sweep_by(
    kernel: Kernel, people: People, rows: Rows, curves: Curves, sums: Sums, *, tuning: Tuning
) -> None:
    """Sweep over a few people. State: adds to the sums, and closes windows that are full."""
    numbers = (
        curves.activity_weight,
        float(curves.share[:, EVERYONE].sum()),
        float(tuning.window),
        tuning.keep,
    )
    counts = (
        people.sent,
        people.answered,
        people.activity,
        people.recent_sent,
        people.recent_answered,
        people.recent_activity,
        people.preference,
        people.changed,
    )
    active = np.zeros((len(curves.curve), BINS))
    added = (
        sums.weight,
        sums.seen,
        active,
        sums.expected,
        sums.grip,
        sums.preference,
        sums.activity_all,
        sums.view_score,
        sums.common_score,
        sums.sent,
        sums.answered,
        sums.changes,
    )
    shares = shares_of_change(curves.hazard), doubted_shares(curves.hazard), LOG_PRIOR
    found = np.empty((len(rows), _FOUND))
    kernel(curves.in_one_piece, numbers, shares, counts, rows, added, found)
    sums.people[0] += len(rows)
    sums.activity += in_rhythm().T @ active
