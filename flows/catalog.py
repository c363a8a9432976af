"""The flows that there are: what each reads, and the step ids that its saved state hangs on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from flows import everything, follow, ingest
from flows.journey.make import JOURNEY, JOURNEY_STEP, make_step
from flows.quality.make import QUALITY, QUALITY_STEP, make_quality_step
from flows.settings import Settings
from flows.timing import TIMING, TIMING_STEP


class Shape(NamedTuple):
    """A flow from outside: the tables and streams that it reads, and its step ids."""

    tables: tuple[str, ...]
    streams: tuple[str, ...]
    step_ids: tuple[str, ...]


def _make_timing(settings: Settings) -> follow.Step:
    """Delivery times; their libraries take seconds to load, so only flows that decide do that."""
    from flows.timing.flow import make_step as make_timing_step  # noqa: PLC0415 - see above

    return make_timing_step(settings)


FOLLOWERS: Final[dict[str, Callable[[Settings], follow.Step]]] = {
    JOURNEY: make_step,
    TIMING: _make_timing,
    QUALITY: make_quality_step,
}
"""What follows accepted events, by the name of the flow that it can be on its own."""

STEPS: Final[dict[str, str]] = {
    JOURNEY: JOURNEY_STEP,
    TIMING: TIMING_STEP,
    QUALITY: QUALITY_STEP,
}
"""The step id of each follower."""

FLOWS: Final[dict[str, Shape]] = {
    ingest.FLOW_ID: Shape(ingest.TABLES, ingest.STREAMS, ingest.STEP_IDS),
    everything.FLOW_ID: Shape(
        follow.TABLES, ingest.STREAMS, everything.step_ids(tuple(STEPS.values()))
    ),
    **{
        name: Shape(follow.TABLES, follow.STREAMS, follow.step_ids(step_id))
        for name, step_id in STEPS.items()
    },
}
