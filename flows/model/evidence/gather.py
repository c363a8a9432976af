"""Gather the evidence of an experiment: sums that lanes add up, and what each subject had."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from flows.model.evidence.compare import HOLDOUT, OPTIMISED, SUMS

Array = npt.NDArray[np.float64]

VERSION: Final = 1
SUBJECTS_MAX: Final = 2_000_000


class Evidence(msgspec.Struct):
    """All sums of one experiment, of one lane or of several.

    State: additive; `merge` in any order gives the same. Shapes: `arms` (2, 7) as in
    `compare.SUMS`, `slots` (3, bins) as in `slots.slot_sums`, `assigned` (2,) subjects by arm,
    counted before any outcome. `left_out` are sends to subjects that came when there was no room
    for more.
    """

    arms: Array
    slots: Array
    assigned: Array
    left_out: int = 0

    @classmethod
    def empty(cls, bins: int) -> Evidence:
        """No evidence yet."""
        return cls(np.zeros((2, len(SUMS))), np.zeros((3, bins)), np.zeros(2))

    def merge(self, other: Evidence) -> Evidence:
        """The evidence of both; subjects of one must not be in the other."""
        return Evidence(
            self.arms + other.arms,
            self.slots + other.slots,
            self.assigned + other.assigned,
            self.left_out + other.left_out,
        )

    def dump(self) -> bytes:
        """Versioned bytes; equal evidence gives equal bytes."""
        parts = [part.tolist() for part in (self.arms, self.slots, self.assigned)]
        return msgspec.msgpack.encode((VERSION, *parts, self.left_out))

    @classmethod
    def load(cls, saved: bytes) -> Evidence:
        """What `dump` wrote.

        Errors: ValueError for another version; msgspec's for what `dump` did not write.
        """
        version, arms, slots, assigned, left_out = msgspec.msgpack.decode(
            saved, type=tuple[int, list[list[float]], list[list[float]], list[float], int]
        )
        _check_version(version)
        return cls(np.array(arms), np.array(slots), np.array(assigned), left_out)


class LaneEvidence:
    """One lane's share: knows what each subject had, so that a subject counts as one.

    State: about 170 bytes a subject, at most `subjects_max`; later ones are left out of both arms
    alike, and counted. Delivery: the caller folds each outcome in once; a late response that
    corrects a negative is folded in as no send and one response.
    """

    def __init__(self, *, bins: int, subjects_max: int = SUBJECTS_MAX) -> None:
        self.evidence = Evidence.empty(bins)
        self._subjects_max = subjects_max
        self._rows: dict[str, int] = {}
        self._taken = 0
        self._arms = np.zeros(0, np.int8)
        self._totals = np.zeros((0, 3))

    def assign(self, subjects: Sequence[str], *, arms: npt.ArrayLike) -> None:
        """Note who is in which arm, when it is decided; who is known already is passed over.

        Outcomes of one arm may come later than those of the other: a split that was counted from
        outcomes would look wrong without being so.
        """
        self._rows_of(subjects, np.asarray(arms, np.int8))

    def observe(
        self,
        subjects: Sequence[str],
        *,
        arms: npt.ArrayLike,
        sends: npt.ArrayLike,
        answers: npt.ArrayLike,
        values: npt.ArrayLike | None = None,
    ) -> None:
        """Fold in outcomes of one block, in any order.

        Shapes: one place for each outcome; a subject may come several times, always in one arm.
        `values` are the answers themselves unless given, for example revenue.
        """
        arm = np.asarray(arms, np.int8)
        rows = self._rows_of(subjects, arm)
        known = rows >= 0
        gained = np.asarray(answers if values is None else values, np.float64)
        sent = np.asarray(sends, np.float64)
        changes = np.stack([sent, np.asarray(answers, np.float64), gained], axis=1)
        self.evidence.left_out += int(sent[~known].sum())
        touched, places = np.unique(rows[known], return_inverse=True)
        before = self._totals[touched]
        after = before.copy()
        np.add.at(after, places, changes[known])
        self._totals[touched] = after
        moved = _moments(after) - _moments(before)
        for number in (OPTIMISED, HOLDOUT):
            self.evidence.arms[number] += moved[self._arms[touched] == number].sum(axis=0)

    def observe_slots(self, sums: Array) -> None:
        """Fold in sums of exploration picks, from `slots.slot_sums`."""
        self.evidence.slots += sums

    def forget(self, subject: str) -> None:
        """Remove an erased subject: what it added to the sums names nobody, and stays.

        Taking it out would also take sides, since people who leave respond differently.
        """
        row = self._rows.pop(subject, None)
        if row is not None:
            self._totals[row] = 0.0

    def _rows_of(self, subjects: Sequence[str], arms: npt.NDArray[np.int8]) -> Any:
        rows = np.empty(len(subjects), np.intp)
        new: list[int] = []
        known, taken = self._rows, self._taken
        for place, subject in enumerate(subjects):
            row = known.get(subject, -1)
            if row < 0 and len(known) < self._subjects_max:
                row = known[subject] = taken + len(new)
                new.append(place)
            rows[place] = row
        if new:
            self._taken = taken + len(new)
            self._make_room()
            self._arms[taken : self._taken] = arms[new]
            self.evidence.assigned += np.bincount(arms[new], minlength=2)[:2]
        return rows

    def _make_room(self) -> None:
        """Twice as much as needed, so that a growing lane is not copied for each block."""
        if self._taken > len(self._arms):
            more = 2 * self._taken - len(self._arms)
            self._arms = np.concatenate([self._arms, np.zeros(more, np.int8)])
            self._totals = np.concatenate([self._totals, np.zeros((more, 3))])

    def dump(self) -> bytes:
        """Versioned bytes of everything, rows of forgotten subjects left out."""
        kept = list(self._rows.values())
        return msgspec.msgpack.encode(
            (
                VERSION,
                self.evidence.dump(),
                list(self._rows),
                self._arms[kept].tobytes(),
                self._totals[kept].tobytes(),
            )
        )

    @classmethod
    def load(cls, saved: bytes, *, subjects_max: int = SUBJECTS_MAX) -> LaneEvidence:
        """What `dump` wrote. Errors: as `Evidence.load`."""
        version, evidence, subjects, arms, totals = msgspec.msgpack.decode(
            saved, type=tuple[int, bytes, list[str], bytes, bytes]
        )
        _check_version(version)
        lane = cls(bins=0, subjects_max=subjects_max)
        lane.evidence = Evidence.load(evidence)
        lane._rows = {subject: row for row, subject in enumerate(subjects)}
        lane._taken = len(subjects)
        lane._arms = np.frombuffer(arms, np.int8).copy()
        lane._totals = np.frombuffer(totals, np.float64).reshape(-1, 3).copy()
        return lane


def _moments(totals: Array) -> Array:
    """The sums that subjects add. Shapes: (subjects, 3) gives (subjects, 7)."""
    sends, answers, value = totals.T
    seen = (sends > 0).astype(np.float64)
    squares = (sends * sends, sends * value, value * value)
    return np.stack([seen, sends, answers, value, *squares], axis=1)


def _check_version(version: int) -> None:
    if version != VERSION:
        raise ValueError(f"expected evidence of version {VERSION}")
