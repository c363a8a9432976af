"""The timing step under these settings, for the flow behind the gate or one of its own."""

from __future__ import annotations

from typing import Final

from connectors.metrics import (
    AUC,
    CALIBRATION,
    DECISIONS,
    DRIFTS,
    JOURNEYS_OPEN,
    LOG_LOSS,
    OUTCOMES,
)
from flows.follow import Step
from flows.ingest import read_policy
from flows.model.evidence.compare import Plan
from flows.settings import Settings
from flows.timing import TIMING_STEP
from flows.timing.allow import Limits
from flows.timing.feedback import Rules as FeedbackRules
from flows.timing.lane import TimingLane
from flows.timing.learners import KINDS, Kind, find_kernel
from flows.timing.record import Writer
from flows.timing.rules import LaneRules, Tally
from flows.timing.trial import HoldoutRule
from schemas.errors import ConfigError
from schemas.events import EVENT_TYPES
from schemas.policy import Policy, seconds_of

OPEN_KEY: Final = b"airside holdout, open to all"
"""What says who is in the holdout where no key is set: anyone could tell, so set one."""

_DAY_S: Final = 86_400


def make_rules(settings: Settings, policy: Policy) -> LaneRules:
    """What a lane decides and learns by.

    Errors: ConfigError for an event type that does not exist.
    """
    timing = settings.timing
    key = timing.holdout_key
    _check_types(timing.responses, *timing.goals.values())
    return LaneRules(
        limits=Limits(
            quiet_from=timing.quiet_from,
            quiet_until=timing.quiet_until,
            horizon_h=timing.horizon_h,
            cap_a_day=timing.cap_a_day,
            cap_a_channel_day=timing.cap_a_channel_day,
            gap_ms=int(timing.gap_s * 1_000),
        ),
        feedback=FeedbackRules(
            kept_ms=int(timing.kept_s * 1_000),
            correct_ms=int(timing.correct_s * 1_000),
            wait_ms=_DAY_S * 1_000,
            journeys_max=timing.journeys_max,
        ),
        plan=Plan(interest=timing.interest, alpha=timing.alpha, holdout_share=timing.holdout_share),
        holdout=HoldoutRule(
            key.get_secret_value().encode() if key else OPEN_KEY, timing.holdout_share
        ),
        priorities=frozenset(timing.now_priorities),
        purposes=frozenset(timing.now_purposes),
        responses=frozenset(timing.responses),
        goals={goal: frozenset(types) for goal, types in timing.goals.items()},
        window_ms=int(timing.window_s * 1_000),
        window_ms_max=int(timing.window_s_max * 1_000),
        model=timing.model,
        policies=dict(timing.policies),
        seed=timing.seed,
        floor=timing.explore_min,
        people_max=timing.people_max,
        publish_ms=int(timing.publish_s * 1_000),
        results_ms=int(timing.results_s * 1_000),
        policy=policy.version,
        people_min=max(policy.small_groups.values(), default=0),
        told_s=seconds_of(policy.defaults.retention),
    )


def _check_types(*groups: tuple[str, ...]) -> None:
    for name in {name for group in groups for name in group} - set(EVENT_TYPES):
        raise ConfigError(
            do="use",
            kind="response",
            name=name,
            found="no such event type",
            expected="one of docs/events.md in AIRSIDE_TIMING__RESPONSES and __GOALS",
        )


def make_kinds(settings: Settings) -> dict[str, Kind]:
    """The models that settings name; they learn at the level that reads Kafka.

    Errors: ConfigError for a name that is not known, and for a level that cannot be had.
    """
    names = {settings.timing.model, *settings.timing.policies.values()}
    for name in sorted(names - set(KINDS)):
        raise ConfigError(
            do="use",
            kind="model",
            name=name,
            found="no such model",
            expected=", ".join(sorted(KINDS)),
            hint="correct AIRSIDE_TIMING__MODEL or AIRSIDE_TIMING__POLICIES",
        )
    kernel = find_kernel(settings.kafka.level)
    return {name: KINDS[name](kernel) for name in sorted(names)}


def watch_metrics(lane: TimingLane, tally: Tally) -> None:
    """Count what a block came to, and show how well its outcomes were expected."""
    for (arm, reason), count in tally.decisions.items():
        DECISIONS.labels(arm, reason).inc(count)
    for kind, count in tally.outcomes.items():
        OUTCOMES.labels(kind).inc(count)
    name = str(lane.number)
    JOURNEYS_OPEN.labels(name).set(len(lane.feedback))
    if tally.outcomes:
        for when, judged in (("decision", lane.calibration), ("learning", lane.progressive)):
            LOG_LOSS.labels(name, when).set(judged.log_loss.get())
            CALIBRATION.labels(name, when).set(judged.error())
            AUC.labels(name, when).set(judged.roc_auc.get())
    if tally.alarmed:
        DRIFTS.labels(name).inc()


def make_step(settings: Settings) -> Step:
    """The step that gives requests their times.

    Errors: ConfigError for settings that name what is not there.
    """
    policy = read_policy(settings)
    rules, kinds = make_rules(settings, policy), make_kinds(settings)
    key = settings.ticket_key
    writer = Writer(
        node=settings.node,
        policy=policy.version,
        key=key.get_secret_value().encode() if key else None,
    )
    return Step(
        TIMING_STEP, lambda: TimingLane(rules, writer, kinds, watch=watch_metrics), answers=True
    )
