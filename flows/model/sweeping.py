"""Walk over all people bit by bit, so that the population moves without a pause."""

from __future__ import annotations

from typing import Final

import numpy as np

from flows.model.change import chances_of_change
from flows.model.kernel import Kernel, sweep_by
from flows.model.people import People, Rows
from flows.model.population import Curves, Sums
from flows.model.posterior import Counts, Evidence, chances, log_view, sweep
from flows.model.shapes import Floats
from flows.model.tuning import Tuning

BLOCK: Final = 256  # people a time: a few milliseconds
_STRIDE: Final = 64  # events between two looks at what is due
_EARLY: Final = 10.0  # outcomes a person after which the population moves less often
_FEW: Final = 8  # a sweep takes at least as many events as one in so many people


class Sweeper:
    """Decides after how many events which people are looked at again.

    State: a place in the slab and the sums so far. All of it depends on the number of events
    learned, never on how they were cut into batches.
    """

    def __init__(self, tuning: Tuning, kernel: Kernel | None = None) -> None:
        self._tuning = tuning
        self._kernel = kernel
        self.next_look = _STRIDE
        self.place = 0
        self.partial = Sums.zero()

    def restart(self, learned: int) -> None:
        """Begin a new sweep at the first row."""
        self.place = 0
        self.partial = Sums.zero()
        self.next_look = (learned // _STRIDE + 1) * _STRIDE

    def look(self, people: People, curves: Curves, *, learned: int) -> Sums | None:
        """Sweep over what is due by now. Shapes: the sums where a sweep is complete, or nothing."""
        rows = len(people.ids)
        each = learned / max(1, len(people))
        share = self._tuning.growth * (1.0 + each / _EARLY)
        events = min(share * learned, self._tuning.pace * len(people))
        events = max(_STRIDE, int(events), len(people) // _FEW)
        due = min(max(BLOCK, -(-rows * _STRIDE // events)), rows - self.place)
        self._walk(people, curves, due)
        self.next_look = learned + max(_STRIDE, events * due // max(rows, 1) // _STRIDE * _STRIDE)
        if self.place < rows:
            return None
        done = self.partial
        self.place, self.partial = 0, Sums.zero()
        return done

    def whole(self, people: People, curves: Curves, *, learned: int) -> Sums:
        """Sweep over everybody at once."""
        self.restart(learned)
        self._walk(people, curves, len(people.ids))
        done = self.partial
        self.restart(learned)
        return done

    def _walk(self, people: People, curves: Curves, due: int) -> None:
        end = self.place + due
        for start in range(self.place, end, BLOCK):
            stop = min(start + BLOCK, end)
            rows = np.flatnonzero(people.here[start:stop]) + start
            if len(rows) and self._kernel is not None:
                sweep_by(self._kernel, people, rows, curves, self.partial, tuning=self._tuning)
            elif len(rows):
                sweep_block(people, rows, curves, self.partial, tuning=self._tuning)
        self.place = end


def sweep_block(people: People, rows: Rows, curves: Curves, sums: Sums, *, tuning: Tuning) -> None:
    """Sweep over a few people, and look for changes of those whose recent window is full.

    The evidence of a change is that past and recent outcomes are likelier from two draws out of
    the population than from one: log Z(past) + log Z(recent) - log Z(both).
    State: adds to the sums, and closes windows that are full.
    """
    full = people.recent_sent[rows].sum(axis=1) >= tuning.window
    looked = full & people.sent[rows].any(axis=1)
    full, rest, looks = rows[full], rows[~looked], rows[looked]
    keep = np.full(len(full), tuning.keep)
    counts = Counts.of(people, np.concatenate([looks, rest]))
    if not len(looks):
        sweep(counts, curves, Evidence.of(counts, curves), sums)
        close_windows(people, full, keep)
        return
    past, recent = Counts.past(people, looks), Counts.recent(people, looks)
    evidence, *alone = Evidence.of_parts(past, recent, curves)
    if len(rest):
        evidence = evidence.beside(Evidence.of(Counts.of(people, rest), curves))
    apart = -sweep(counts, curves, evidence, sums)[: len(looks)]
    for shape, part in zip(alone, (past, recent), strict=True):
        apart += chances(shape + log_view(part, curves))[1]
    changed = chances_of_change(apart, curves.hazard)
    sums.changes += (changed.sum(), len(changed))
    keep[np.isin(full, looks)] *= 1.0 - changed
    close_windows(people, full, keep)


def close_windows(people: People, rows: Rows, keep: Floats) -> None:
    """Move recent windows into the past, of which a share is kept.

    Shapes: shares (n,). State: rescales and moves counts of the rows it is given.
    """
    scale = keep[:, None].astype(np.float32)
    for past, recent in (
        (people.sent, people.recent_sent),
        (people.answered, people.recent_answered),
        (people.activity, people.recent_activity),
    ):
        past[rows] = past[rows] * scale + recent[rows]
        recent[rows] = 0.0
    people.changed[rows] = True
