"""How many messages a lane may take up at a time."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from connectors.clock import SystemClock
from connectors.kafka.lanes import LaneSource


@pytest.mark.parametrize(
    ("own", "asked", "share"),
    [
        (range(1), 5_000, 5_000),
        (range(4), 5_000, 1_250),
        (range(0, 24, 3), 5_000, 625),
        (range(24), 5_000, 500),
        (range(24), 20_000, 833),
        (range(24), 100, 100),
        ((), 5_000, 5_000),
    ],
)
def test_lanes_of_a_process_share_what_it_may_take_up(
    own: Sequence[int], asked: int, share: int
) -> None:
    source = LaneSource(
        bootstrap_servers="-",
        lanes=24,
        own=own,
        tables=(),
        streams=(),
        clock=SystemClock(),
        stop=lambda: False,
        block_messages_max=asked,
    )

    assert share == source.block_messages_max
