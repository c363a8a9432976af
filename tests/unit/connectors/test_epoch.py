"""What the lanes of a process take up in one epoch, and what a lane makes of time it waited."""

from __future__ import annotations

from collections import deque

import pytest
from prometheus_client import REGISTRY

from connectors.clock import SystemClock
from connectors.kafka.epoch import EpochBound, LaneEpoch
from connectors.kafka.lanes import LaneSource
from connectors.kafka.order import Given, Run
from connectors.kafka.reach import Reach
from connectors.kafka.resumption import Resumption
from schemas.errors import PermanentError


def test_lanes_share_the_bound_until_the_first_of_them_begins_anew() -> None:
    bound = EpochBound(100)
    lanes = [LaneEpoch(bound, lane) for lane in range(2)]
    bound.take(60)
    bound.take(40)
    assert 0 == bound.left

    lanes[0].end(1.0)
    bound.take(5)  # the other lane's epoch still runs, and gives a block again
    assert 0 == bound.left

    lanes[1].end(1.0)
    assert 0.0 == lanes[0].begin(2.0)
    assert 100 == bound.left
    bound.take(70)
    assert 0.0 == lanes[1].begin(2.0)

    assert 30 == bound.left


def test_an_epoch_that_runs_is_not_begun() -> None:
    bound = EpochBound(100)
    lane = LaneEpoch(bound, 0)
    bound.take(100)

    assert lane.begin(5.0) is None
    assert 0 == bound.left


def test_a_lane_tells_how_long_it_was_full() -> None:
    lane = LaneEpoch(EpochBound(1), 907)
    lane.wait(3.0)
    lane.wait(4.0)
    lane.end(5.0)

    assert 2.5 == lane.begin(5.5)
    assert lane.begin(6.0) is None
    lane.end(8.0)
    assert 0.0 == lane.begin(9.0)
    full_s = REGISTRY.get_sample_value("airside_epoch_full_seconds_total", {"lane": "907"})
    assert 2.0 == full_s


@pytest.mark.parametrize(
    ("lanes", "asked", "left", "block"),
    [(4, 250_000, 250_000, 1_250), (4, 2_000, 2_000, 500), (4, 1_000, 1_000, 250), (24, 1, 24, 1)],
)
def test_each_lane_can_take_up_its_part_before_another_took_all(
    lanes: int, asked: int, left: int, block: int
) -> None:
    source = LaneSource(
        bootstrap_servers="-",
        lanes=lanes,
        tables=(),
        streams=(),
        clock=SystemClock(),
        stop=lambda: False,
        epoch_messages_max=asked,
    )

    assert left == source.bound.left
    assert block == source.block_messages_max
    assert lanes * block <= left


def test_time_in_which_nobody_looked_makes_no_partition_quiet() -> None:
    reach = Reach({})
    reach.note_end(("t", 0), 4, now_s=10.0)

    reach.wait(8.0)

    assert () == reach.quiet(20.0, longest_s=5.0)
    assert (("t", 0),) == reach.quiet(23.0, longest_s=5.0)


def test_a_lane_that_did_not_read_misses_nothing_yet() -> None:
    given = Given("t", 1, (), False, (Run(0, 5, 9, 5),))
    resumption = Resumption(lane=0, order=("t",), table_ends={}, pending=deque([given]), now_s=0.0)
    resumption.note_end(("t", 0), 5)
    resumption.wait(60.0)

    assert resumption.repeat(61.0) is None
    with pytest.raises(PermanentError, match="could not read again"):
        resumption.repeat(76.0)


def test_epochs_that_end_do_not_keep_a_lane_waiting_for_what_is_gone() -> None:
    """Only time in which it did not read counts, and it reads in all epochs but full ones."""
    given = Given("t", 1, (), False, (Run(0, 5, 9, 5),))
    resumption = Resumption(lane=0, order=("t",), table_ends={}, pending=deque([given]), now_s=0.0)
    resumption.note_end(("t", 0), 5)
    epoch = LaneEpoch(EpochBound(100), 0)
    with pytest.raises(PermanentError, match="could not read again"):
        for second in range(60):
            if second % 5 == 4:
                epoch.end(float(second))
                resumption.wait(epoch.begin(second + 0.5) or 0.0)
            resumption.repeat(second + 0.5)


def test_a_block_of_which_every_message_is_gone_is_left_out() -> None:
    """Compaction took them; the lane goes on with what comes behind."""
    gone = Given("t", 1, (), False, (Run(0, 5, 9, 5),))
    resumption = Resumption(lane=0, order=("t",), table_ends={}, pending=deque([gone]), now_s=0.0)
    resumption.note_end(("t", 0), 12)

    assert resumption.repeat(1.0) is None
    assert resumption.is_done
