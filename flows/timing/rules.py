"""What a lane decides and learns by, and what a block came to."""

from __future__ import annotations

from collections import Counter

import msgspec

from flows.model.evidence.compare import Plan
from flows.timing.allow import Limits
from flows.timing.feedback import Rules as FeedbackRules
from flows.timing.trial import HoldoutRule


class LaneRules(msgspec.Struct, frozen=True):
    """What a lane decides and learns by.

    Units: milliseconds; `told_s` seconds. `goals` are the responses by goal, where they are not
    the usual ones. Rows about groups are kept for `told_s`, and say nothing of a group of fewer
    than `people_min` people.
    """

    limits: Limits
    feedback: FeedbackRules
    plan: Plan
    holdout: HoldoutRule
    priorities: frozenset[str]
    purposes: frozenset[str]
    responses: frozenset[str]
    goals: dict[str, frozenset[str]]
    window_ms: int
    window_ms_max: int
    model: str
    policies: dict[str, str]
    seed: int
    floor: float
    people_max: int
    publish_ms: int
    results_ms: int
    policy: int
    people_min: int = 0
    told_s: int = 0


class Tally(msgspec.Struct):
    """What a block came to, for metrics. Shapes: decisions by (arm, reason), outcomes by kind."""

    decisions: Counter[tuple[str, str]]
    outcomes: Counter[str]
    alarmed: bool = False
