"""Journeys of simulated worlds: told to the event, whatever the order, late data and kills."""

from __future__ import annotations

from random import Random

import pytest

from flows.simulate import World
from tests.journeys_run import JourneyRun

END_MS = 1_800_000_000_000


@pytest.mark.parametrize("seed", range(10))
def test_every_journey_is_told_to_the_event_after_kills_and_late_data(seed: int) -> None:
    run = JourneyRun(World(seed, total=3_000, end_ms=END_MS, people=200))
    run.follow(run.as_read(Random(seed), messages_max=300), kill_every=25)

    wanted = run.wanted()
    assert wanted == run.found()
    assert {"open", "completed", "suppressed", "failed"} == {one.state for one in wanted.values()}
    assert {"orchestration", "delivery", "analysis"} <= {one.stage for one in wanted.values()}
    assert run.wanted_outcomes() == run.found_outcomes()
    assert 15 < max(one.n for one in wanted.values())


def test_the_order_of_reading_changes_no_row() -> None:
    world = World(3, total=2_000, end_ms=END_MS, people=100)
    one, other = JourneyRun(world), JourneyRun(world)
    one.follow(one.as_read(Random(1)))
    other.follow(other.topic_by_topic(["ntf.engagement.v1", "ntf.delivery.v1", "ntf.requests.v1"]))

    assert one.found() == one.wanted()
    assert one.journeys.rows == other.journeys.rows
    assert one.outcomes.rows == other.outcomes.rows
    assert one.found_outcomes() == one.wanted_outcomes()
