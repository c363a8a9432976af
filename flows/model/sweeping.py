"""Walk over all people bit by bit, so that the population moves without a pause."""

from __future__ import annotations

from typing import Final

import numpy as np

from flows.model.people import People, Rows
from flows.model.population import Curves, Sums
from flows.model.posterior import Counts, Evidence, log_total, log_view, sweep
from flows.model.shapes import Floats
from flows.model.tuning import Tuning

BLOCK: Final = 256  # people a time: a few milliseconds
_STRIDE: Final = 64  # events between two looks at what is due


class Sweeper:
    """Decides after how many events which people are looked at again.

    State: a place in the slab and the sums so far. All of it depends on the number of events
    learned, never on how they were cut into batches.
    """

    def __init__(self, tuning: Tuning) -> None:
        self._tuning = tuning
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
        events = max(
            _STRIDE, int(min(self._tuning.growth * learned, self._tuning.pace * len(people)))
        )
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
            if len(rows):
                changes = close_windows(people, rows, curves, self._tuning)
                sums = sweep(Counts.of(people, rows), curves)
                sums.changes[:] = changes
                self.partial = self.partial + sums
        self.place = end


def close_windows(people: People, rows: Rows, curves: Curves, tuning: Tuning) -> Floats:
    """Move full recent windows into the past, and forget the past of those who changed.

    The evidence of a change is that past and recent outcomes are likelier from two draws out of
    the population than from one: log Z(past) + log Z(recent) - log Z(both).

    Shapes: expected number of changes, and of windows looked at.
    State: rescales and moves counts of the rows it is given.
    """
    full = rows[people.recent_sent[rows].sum(axis=1) >= tuning.window]
    if not len(full):
        return np.zeros(2)
    with_past = people.sent[full].sum(axis=1) > 0
    keep = np.full(len(full), tuning.keep)
    looked = full[with_past]
    if len(looked):
        changed = _chance_of_change(people, looked, curves)
        keep[with_past] *= 1.0 - changed
    scale = keep[:, None].astype(np.float32)
    for past, recent in (
        (people.sent, people.recent_sent),
        (people.answered, people.recent_answered),
        (people.activity, people.recent_activity),
    ):
        past[full] = past[full] * scale + recent[full]
        recent[full] = 0.0
    return np.array([changed.sum() if len(looked) else 0.0, float(len(looked))])


def _chance_of_change(people: People, rows: Rows, curves: Curves) -> Floats:
    past, recent = Counts.past(people, rows), Counts.recent(people, rows)
    both = Counts.of(people, rows)
    evidence = _log_evidence(past, curves) + _log_evidence(recent, curves)
    evidence -= _log_evidence(both, curves)
    stay = (1.0 - curves.hazard) / curves.hazard
    return np.asarray(1.0 / (1.0 + stay * np.exp(-evidence.clip(-50.0, 50.0))))


def _log_evidence(counts: Counts, curves: Curves) -> Floats:
    return log_total(Evidence.of(counts, curves).shape + log_view(counts, curves))
