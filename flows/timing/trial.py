"""The permanent experiment of a lane: who is in the holdout, what came of it, and the verdict."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from flows.model.evidence.clusters import ClusterLooks
from flows.model.evidence.compare import Plan, State
from flows.model.evidence.experiment import Experiment, Result
from flows.model.evidence.explore import Exploration, exploration
from flows.model.evidence.gather import Evidence, LaneEvidence
from flows.model.evidence.slots import bin_odds, day_parts, slot_sums
from flows.timing.feedback import HOLDOUT, OPTIMISED, Lesson
from flows.timing.rhythms import Rhythms, together

Array = npt.NDArray[np.float64]

NAME: Final = "delivery_time"
BINS: Final[npt.NDArray[np.intp]] = day_parts()
BIN_COUNT: Final = int(BINS.max()) + 1


class HoldoutRule(msgspec.Struct, frozen=True):
    """Who stays in the holdout, for ever: a keyed hash below a share."""

    key: bytes
    share: float

    def holds(self, subject: str) -> bool:
        """Tell whether a person is in the holdout.

        >>> HoldoutRule(b"k" * 16, 1.0).holds("usr_1"), HoldoutRule(b"k" * 16, 0.0).holds("usr_1")
        (True, False)
        """
        digest = hashlib.blake2b(subject.encode(), key=self.key[:64], digest_size=8).digest()
        return int.from_bytes(digest, "little") < self.share * 2.0**64


def odds_of_bins(odds: Array) -> list[bytes]:
    """The odds of each bin of slots, a bytes string of float32 a row."""
    rows = bin_odds(odds, BINS).astype(np.float32)
    return [row.tobytes() for row in rows]


class Trial:
    """One lane's part of the experiment, and the verdict on that of all lanes.

    State: what each subject had, see `LaneEvidence` and `Rhythms`; the plan and the verdict so far.
    """

    def __init__(self, plan: Plan, *, subjects_max: int, floor: float) -> None:
        self._subjects_max = subjects_max
        self._floor = floor
        self.lane = LaneEvidence(bins=BIN_COUNT, subjects_max=subjects_max)
        self.rhythms = Rhythms()
        self.experiment = Experiment(NAME, plan, 0)
        self.explore = Exploration(1.0, State.COLLECTING.value)

    @property
    def evidence(self) -> Evidence:
        """The sums of this lane."""
        return self.lane.evidence

    def assign(self, subjects: Sequence[str], arms: Sequence[int], *, at_ms: int) -> None:
        """Note who is in which arm, when it is decided."""
        if not self.experiment.started_ms:
            self.experiment = msgspec.structs.replace(self.experiment, started_ms=at_ms)
        self.lane.assign(subjects, arms=np.asarray(arms, np.int8))

    def add(self, lessons: Sequence[Lesson]) -> None:
        """Take in outcomes; those that cannot be compared are passed over."""
        kept = [lesson for lesson in lessons if lesson.send.counts]
        if not kept:
            return
        arms = [OPTIMISED if lesson.send.arm == OPTIMISED else HOLDOUT for lesson in kept]
        self.lane.observe(
            [lesson.send.subject for lesson in kept],
            arms=arms,
            sends=[float(not lesson.corrects) for lesson in kept],
            answers=[float(lesson.responded) for lesson in kept],
        )
        self.rhythms.add(kept)
        drawn = [lesson for lesson in kept if lesson.send.odds]
        if not drawn:
            return
        picked = [int(BINS[lesson.send.slot]) for lesson in drawn]
        rows = [np.frombuffer(lesson.send.odds, np.float32) for lesson in drawn]
        odds = np.stack(rows).astype(np.float64)
        expected = [lesson.send.expected for lesson in drawn]
        responded = [float(lesson.responded) for lesson in drawn]
        self.lane.observe_slots(slot_sums(picked, odds, responded, expected))
        for number, lesson in enumerate(drawn):
            if lesson.corrects:
                # What was folded in when it still was a negative is taken back.
                one = slice(number, number + 1)
                before = slot_sums(picked[one], odds[one], [0.0], expected[one])
                self.lane.observe_slots(-before)

    def judge(
        self,
        others: Sequence[Evidence],
        *,
        at_ms: int,
        looks: Sequence[ClusterLooks] = (),
    ) -> Result | None:
        """The verdict on the evidence of all lanes, and how much exploration that is worth.

        `looks` are those of the other lanes at whether people differ in their hours.

        None where there is no holdout, so nothing to compare with.
        """
        if not self.experiment.plan.holdout_share:
            return None
        total = self.evidence
        for other in others:
            total = total.merge(other)
        found = together([self.rhythms.look(), *looks])
        self.experiment = msgspec.structs.replace(self.experiment, looks=found)
        self.experiment, result = self.experiment.evaluate(total, at_ms=at_ms)
        self.explore = exploration(
            1.0,
            floor=self._floor,
            state=self.experiment.state,
            slots_differ=result.slots_differ,
            clusters_exist=result.clusters_exist,
        )
        return result

    def forget(self, subject: str) -> None:
        """Forget a person's counts; the sums name nobody and keep what was added."""
        self.lane.forget(subject)
        self.rhythms.forget(subject)

    def dump(self) -> dict[str, Any]:
        """The state as plain values."""
        experiment = self.experiment
        return {
            "lane": self.lane.dump(),
            "started_ms": experiment.started_ms,
            "state": experiment.state.value,
            "decided_ms": experiment.decided_ms,
            "explore": list(self.explore),
            "rhythms": self.rhythms.dump(),
        }

    def load(self, dumped: dict[str, Any]) -> None:
        """Take back what `dump` gave."""
        self.lane = LaneEvidence.load(dumped["lane"], subjects_max=self._subjects_max)
        self.experiment = msgspec.structs.replace(
            self.experiment,
            started_ms=dumped["started_ms"],
            state=State(dumped["state"]),
            decided_ms=dumped["decided_ms"],
        )
        self.explore = Exploration(*dumped["explore"])
        if dumped["rhythms"] is not None:
            self.rhythms.load(dumped["rhythms"])
