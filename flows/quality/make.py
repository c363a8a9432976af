"""Make the quality follower as the settings say."""

from __future__ import annotations

from typing import Final

from flows.follow import Step
from flows.quality.follow import QualityFollower, QualityRules
from flows.settings import Settings
from schemas.quality import load_quality

QUALITY: Final = "quality"
"""The name of the flow that quality can be on its own."""

QUALITY_STEP: Final = "judge_quality"


def make_quality_step(settings: Settings) -> Step:
    """Quality as a step of a flow, with a follower for each lane."""
    rules = QualityRules(lateness_ms=int(settings.time.lateness_s_max * 1_000))
    quality = load_quality()
    return Step(QUALITY_STEP, lambda: QualityFollower(quality, rules), sees_refused=True)
