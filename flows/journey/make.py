"""Make the journey follower as the settings say."""

from __future__ import annotations

from typing import Final

from flows.follow import Step
from flows.journey.follow import JourneyFollower
from flows.journey.rules import JourneyRules
from flows.process.judge import Rules
from flows.settings import Settings
from schemas.process import load_process

JOURNEY: Final = "journey"
"""The name of the flow that journeys can be on their own."""

JOURNEY_STEP: Final = "follow_journeys"


def rules_of(settings: Settings) -> JourneyRules:
    """The bounds and spans of the settings."""
    part = settings.journey
    return JourneyRules(
        timeout_ms=int(part.timeout_s * 1_000),
        # An event may be so late that it came before the silence ended.
        forget_ms=int((part.forget_s + settings.time.lateness_s_max) * 1_000),
        tombstone_ms=int(part.tombstone_s * 1_000),
        lateness_ms=int(settings.time.lateness_s_max * 1_000),
        journeys_max=part.journeys_max,
        moments_max=part.acts_max,
        window_ms=int(part.window_s * 1_000),
        touches_max=part.touches_max,
        outcomes_max=part.outcomes_max,
    )


def make_step(settings: Settings) -> Step:
    """Journeys as a step of a flow, with a follower for each lane."""
    rules, process = rules_of(settings), process_of(settings)
    return Step(JOURNEY_STEP, lambda: JourneyFollower(rules, process))


def process_of(settings: Settings) -> Rules:
    """The process that the settings name, or the one that comes with Airside."""
    return Rules(load_process(settings.process))
