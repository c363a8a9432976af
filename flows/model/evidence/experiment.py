"""One experiment: its plan, the verdict on the evidence of all lanes, and how that is told."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from flows.model.evidence.assignment import is_split_wrong, split_log_e
from flows.model.evidence.clusters import ClusterLooks
from flows.model.evidence.compare import (
    ARMS,
    HOLDOUT,
    OPTIMISED,
    Finding,
    Plan,
    State,
    judge,
)
from flows.model.evidence.gather import Evidence
from flows.model.evidence.slots import SlotFinding, judge_slots
from schemas.blocks import Rows

Array = npt.NDArray[np.float64]


class Experiment(msgspec.Struct, frozen=True):
    """What is known of one experiment: its plan, and the verdict so far.

    State: a few numbers beside the evidence; `evaluate` gives the next one, and changes nothing.
    Units: times in milliseconds since 1970 UTC; `decided_ms` is when the state was reached.
    """

    name: str
    plan: Plan
    started_ms: int
    state: State = State.COLLECTING
    decided_ms: int = 0
    looks: ClusterLooks = ClusterLooks()

    def evaluate(
        self, evidence: Evidence, *, at_ms: int, cluster_log_e: float | None = None
    ) -> tuple[Experiment, Result]:
        """The verdict at a time of the data, from the merged evidence of all lanes.

        `cluster_log_e` is a new look of `clusters.cluster_log_e`, where one was taken. While the
        split of subjects is proven wrong, the state is `collecting`: nothing may be concluded.
        """
        plan = self.plan
        looks = self.looks if cluster_log_e is None else self.looks.look(cluster_log_e)
        split = split_log_e(
            [int(evidence.assigned[arm]) for arm in (OPTIMISED, HOLDOUT)],
            [1 - plan.holdout_share, plan.holdout_share],
        )
        wrong = is_split_wrong(split)
        finding = judge(evidence.arms, plan, self.state)
        state = State.COLLECTING if wrong else finding.state
        decided_ms = self.decided_ms if state is self.state else at_ms
        after = msgspec.structs.replace(self, state=state, decided_ms=decided_ms, looks=looks)
        result = Result(
            experiment=self.name,
            at_ms=at_ms,
            finding=msgspec.structs.replace(finding, state=state),
            arms=evidence.arms.copy(),
            left_out=evidence.left_out,
            split_log_e=split,
            split_wrong=wrong,
            cluster_looks=looks.looks,
            cluster_log_e=looks.log_e,
            clusters_exist=looks.exist(plan.alpha),
            slots=tuple(judge_slots(evidence.slots, plan.alpha)),
        )
        return after, result

    def to_rows(self) -> Rows:
        """The row of table `experiments`."""
        plan = self.plan
        return Rows(
            "experiments",
            1,
            {
                "experiment": [self.name],
                "started_at": [self.started_ms],
                "holdout_share": [plan.holdout_share],
                "interest": [plan.interest],
                "alpha": [plan.alpha],
                "state": [self.state.value],
                "decided_at": [self.decided_ms],
                "ver": [max(self.started_ms, self.decided_ms)],
            },
        )


class Result(msgspec.Struct, frozen=True):
    """The verdict at one time, with all that it rests on. Units: as in `compare.Finding`."""

    experiment: str
    at_ms: int
    finding: Finding
    arms: Array
    left_out: int
    split_log_e: float
    split_wrong: bool
    cluster_looks: int
    cluster_log_e: float
    clusters_exist: bool
    slots: tuple[SlotFinding, ...]

    @property
    def slots_differ(self) -> bool:
        """Tell whether any slot is proven to differ from the others."""
        return any(slot.found for slot in self.slots)

    def as_fields(self) -> dict[str, Any]:
        """All but the slots, flat: the columns of the table and the body of the message.

        Shapes: numbers that are not there yet are None, never infinite.
        """
        finding = self.finding
        fields: dict[str, Any] = {
            "experiment": self.experiment,
            "state": finding.state.value,
            "lift": _finite(finding.lift),
            "low": _finite(finding.low),
            "high": _finite(finding.high),
            "detectable": _finite(finding.detectable),
            "sends_needed": finding.sends_needed if finding.sends_needed >= 0 else None,
            "log_e": _finite(finding.log_e),
        }
        for number, arm in enumerate(ARMS):
            subjects, sends, answers, value = self.arms[number, :4].tolist()
            fields |= {
                f"{arm}_subjects": int(subjects),
                f"{arm}_sends": int(sends),
                f"{arm}_answers": int(answers),
                f"{arm}_value": value,
            }
        return fields | {
            "left_out": self.left_out,
            "split_log_e": self.split_log_e,
            "split_wrong": self.split_wrong,
            "cluster_looks": self.cluster_looks,
            "cluster_log_e": _finite(self.cluster_log_e),
            "clusters_exist": self.clusters_exist,
            "slots_differ": self.slots_differ,
        }

    def slot_fields(self) -> list[dict[str, Any]]:
        """The slots, bin by bin."""
        return [
            {"bin": one.bin, "lift": one.lift, "error": one.error, "log_e": one.log_e}
            | {"found": one.found}
            for one in self.slots
        ]

    def to_body(self) -> bytes:
        """The body of the message on `airside.experiments.v1`; its key is the experiment's name."""
        at = datetime.fromtimestamp(self.at_ms / 1_000, UTC).isoformat(timespec="milliseconds")
        parts = {"at": at.replace("+00:00", "Z"), "slots": self.slot_fields()}
        return msgspec.json.encode(self.as_fields() | parts)

    def to_rows(self) -> Rows:
        """The row of table `experiment_results`."""
        columns = {name: [value] for name, value in self.as_fields().items()}
        times = {"at": [self.at_ms], "ver": [int(self.arms[:, 1].sum())]}
        return Rows("experiment_results", 1, {**columns, "slots": [self.slot_fields()], **times})


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None
