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
_EARLY: Final = 10.0  # outcomes a person after which the population moves less often
_KNOWN_PEOPLE: Final = 25.0  # for so many people stands what is known of changes already
_ROUNDS: Final = 8
_FEW: Final = 8  # a sweep takes at least as many events as one in so many people


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
            if len(rows):
                counts = Counts.of(people, rows)
                evidence = Evidence.of(counts, curves)
                sweep(counts, curves, evidence, self.partial)
                total = log_total(evidence.shape + log_view(counts, curves))
                self.partial.changes += close_windows(people, rows, curves, total, self._tuning)
        self.place = end


def close_windows(
    people: People, rows: Rows, curves: Curves, total: Floats, tuning: Tuning
) -> Floats:
    """Move full recent windows into the past, and forget the past of those who changed.

    The evidence of a change is that past and recent outcomes are likelier from two draws out of
    the population than from one: log Z(past) + log Z(recent) - log Z(both), of which the last is
    known from the sweep.

    Shapes: log Z of all that rows have (n,); expected number of changes, and of windows looked at.
    State: rescales and moves counts of the rows it is given.
    """
    is_full = people.recent_sent[rows].sum(axis=1) >= tuning.window
    full = rows[is_full]
    if not len(full):
        return np.zeros(2)
    with_past = people.sent[full].sum(axis=1) > 0
    keep = np.full(len(full), tuning.keep)
    looked = full[with_past]
    changed = np.zeros(0)
    if len(looked):
        apart = _log_evidence(Counts.past(people, looked), curves)
        apart += _log_evidence(Counts.recent(people, looked), curves)
        changed = chances_of_change(apart - total[is_full][with_past], curves.hazard)
        keep[with_past] *= 1.0 - changed
    scale = keep[:, None].astype(np.float32)
    for past, recent in (
        (people.sent, people.recent_sent),
        (people.answered, people.recent_answered),
        (people.activity, people.recent_activity),
    ):
        past[full] = past[full] * scale + recent[full]
        recent[full] = 0.0
    return np.array([changed.sum(), float(len(looked))])


def chances_of_change(evidence: Floats, hazard: float) -> Floats:
    """How likely each of some people has changed, given evidence of it.

    How often people change is taken from these people, too, beside what was learned of it before:
    at a moment at which many change, each of them is likelier to have.
    Shapes: log odds by each person's own outcomes (n,); chances (n,). State: none.
    Source: the usual maximum of a mixture's likelihood by expectation and maximisation.

    >>> chances_of_change(np.ones(1), 0.02).round(2).tolist()
    [0.06]
    >>> chances_of_change(np.ones(100), 0.02)[:1].round(2).tolist()
    [0.82]
    """
    unlikelier = np.exp(-evidence.clip(-50.0, 50.0))
    share, chance = hazard, np.zeros(len(evidence))
    for _ in range(_ROUNDS):
        chance = 1.0 / (1.0 + (1.0 - share) / share * unlikelier)
        share = (_KNOWN_PEOPLE * hazard + chance.sum()) / (_KNOWN_PEOPLE + len(chance))
    return chance


def _log_evidence(counts: Counts, curves: Curves) -> Floats:
    return log_total(Evidence.of(counts, curves).shape + log_view(counts, curves))
