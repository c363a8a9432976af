"""What a native library may do in place of numpy: a sweep over some people, in one call."""

from __future__ import annotations

from typing import Any, Final, Protocol

import numpy as np

from flows.model.people import People, Rows
from flows.model.population import Curves, Sums
from flows.model.shapes import BINS, EVERYONE, Floats, in_rhythm

FULL: Final = 1
LOOKED: Final = 2
_FOUND: Final = 4


class Kernel(Protocol):
    """Adds to sums what people tell about the population, as `flows.model.posterior` does.

    Promise: the same to six digits and better. What is found of a person depends on nobody who is
    looked at together with it.
    Errors: ValueError for arrays of another kind or size, before anything is written.
    """

    def __call__(  # noqa: PLR0917 - a C function's, which has no names
        self,
        tables: tuple[Floats, ...],
        view: float,
        common: float,
        counts: tuple[Any, ...],
        rows: Rows,
        window: float,
        sums: tuple[Floats, ...],
        found: Floats,
        /,
    ) -> None:
        """Sweep over the people in these rows.

        Shapes: `found` gets (n, 4): log likelihood of all that is known, of the past and of the
        recent window alone (0 where they are not compared), and whether that is `FULL` or `LOOKED`
        at. At least `window` sends fill it; who has a past, too, is looked at.
        """


def sweep_by(
    kernel: Kernel, people: People, rows: Rows, curves: Curves, sums: Sums, *, window: float
) -> tuple[Rows, Rows, Floats]:
    """Add what people tell about the population to the sums.

    Shapes: rows of those whose recent window is full, of those of them who also have a past, and
    the evidence that each of these has changed. State: `sums`.
    """
    counts = (
        people.sent,
        people.answered,
        people.activity,
        people.recent_sent,
        people.recent_answered,
        people.recent_activity,
        people.preference,
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
    )
    found = np.empty((len(rows), _FOUND))
    common = float(curves.share[:, EVERYONE].sum())
    kernel(curves.in_one_piece, curves.activity_weight, common, counts, rows, window, added, found)
    sums.people[0] += len(rows)
    sums.activity += in_rhythm().T @ active
    whole, past, recent, state = found.T
    looked = state == LOOKED
    return rows[state >= FULL], rows[looked], (past + recent - whole)[looked]
