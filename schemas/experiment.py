"""What topic `airside.experiments.v1` carries: the verdict of one experiment at one time."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field

from schemas.events.body import Strict
from schemas.events.fields import Instant, Label

NAME: Final = "airside.experiment.evaluated.v1"
TOPIC: Final = "airside.experiments.v1"

Number = Annotated[int, Field(ge=0, le=2**53)]
Real = Annotated[float, Field(ge=-1e15, le=1e15)]


class SlotEvidence(Strict):
    """One part of the week against all others. Units: as in `ExperimentEvaluated`."""

    bin: Annotated[int, Field(ge=0, le=167)]
    lift: Real
    error: Annotated[float, Field(ge=0, le=1e15)]
    log_e: Real
    found: bool


class ExperimentEvaluated(Strict):
    """What an experiment has shown until a time of the data; docs/evidence.md says how to read it.

    Units: lifts are differences of the mean value per send, `log_e` natural logs of e-values.
    What cannot be told yet is null.
    """

    experiment: Label
    at: Instant
    state: Literal["collecting", "effect_found", "null_accepted"]
    lift: Real
    low: Real | None = None
    high: Real | None = None
    detectable: Real | None = None
    sends_needed: Number | None = None
    log_e: Real
    optimised_subjects: Number
    optimised_sends: Number
    optimised_answers: Number
    optimised_value: Real
    holdout_subjects: Number
    holdout_sends: Number
    holdout_answers: Number
    holdout_value: Real
    left_out: Number
    split_log_e: Real
    split_wrong: bool
    cluster_looks: Number
    cluster_log_e: Real | None = None
    clusters_exist: bool
    slots_differ: bool
    slots: Annotated[tuple[SlotEvidence, ...], Field(max_length=168, fail_fast=True)] = ()
