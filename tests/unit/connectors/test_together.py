"""Epochs of several lanes end at the same time, and each lane hears of its own."""

from __future__ import annotations

import threading

import pytest

from connectors.kafka import together as together_module
from connectors.kafka.together import Together
from schemas.errors import AirsideError, TransientError

WAIT_S_MAX = 30.0


class Lane:
    """A lane whose epoch ends only when all lanes of the test are ending theirs."""

    def __init__(self, together: Together, lane: int, gate: threading.Barrier) -> None:
        self.is_open = True
        self.ends = 0
        self.thread = ""
        self.error: Exception | None = None
        self.stuck_error: AirsideError | None = None
        self._gate = gate
        together.add(lane, self)

    def end_epoch(self) -> None:
        self._gate.wait(WAIT_S_MAX)
        self.thread = threading.current_thread().name
        if self.error is not None:
            raise self.error
        self.ends += 1
        self.is_open = False

    def stuck(self) -> AirsideError | None:
        return self.stuck_error


def test_lanes_end_their_epochs_beside_each_other() -> None:
    together, gate = Together(), threading.Barrier(3)
    lanes = [Lane(together, number, gate) for number in range(3)]

    for _ in range(2):
        for number, lane in enumerate(lanes):
            lane.is_open = True
            assert lane.ends in {0, 1}, number
        for number in range(3):
            together.end(number)

    assert [2, 2, 2] == [lane.ends for lane in lanes]


def test_a_lane_with_nothing_open_is_not_ended() -> None:
    together, gate = Together(), threading.Barrier(1)
    idle, busy = (Lane(together, number, gate) for number in range(2))
    idle.is_open = False

    together.end(0)
    together.end(1)

    assert [0, 1] == [idle.ends, busy.ends]


def test_an_end_that_never_comes_back_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(together_module, "_LOOK_S", 0.01)
    together, gate = Together(), threading.Barrier(2)  # that nobody else comes to
    lane = Lane(together, 0, gate)
    lane.stuck_error = TransientError(do="commit", kind="lane", name="0", found="no return")

    with pytest.raises(TransientError, match="no return"):
        together.end(0)
    together.leave(0, 0.1)
    gate.abort()


def test_lanes_with_nothing_open_do_not_end_those_again_that_are_ending() -> None:
    """The engine asks every lane that was given something, be it only an empty list."""
    together, gate = Together(), threading.Barrier(3)
    lanes = [Lane(together, number, gate) for number in range(4)]
    lanes[0].is_open = lanes[1].is_open = False

    together.end(0)  # begins the ends of the last two, which wait at the gate
    together.end(1)
    gate.wait(WAIT_S_MAX)
    together.end(2)
    together.end(3)

    assert [0, 0, 1, 1] == [lane.ends for lane in lanes]


def test_what_goes_wrong_in_one_lane_is_raised_by_that_lane() -> None:
    together, gate = Together(), threading.Barrier(2)
    good, bad = (Lane(together, number, gate) for number in range(2))
    bad.error = ValueError("refused")

    together.end(0)
    with pytest.raises(ValueError, match="refused"):
        together.end(1)

    assert [1, 0] == [good.ends, bad.ends]


def test_a_lane_that_leaves_waits_for_its_end_but_keeps_its_error() -> None:
    together, gate = Together(), threading.Barrier(2)
    lanes = [Lane(together, number, gate) for number in range(2)]
    lanes[1].error = ValueError("refused")
    together.end(0)

    together.leave(1, WAIT_S_MAX)
    lanes[0].is_open = True
    gate.reset()
    left = threading.Thread(target=gate.wait, args=(WAIT_S_MAX,))
    left.start()
    together.end(0)
    left.join(WAIT_S_MAX)

    assert [2, 0] == [lane.ends for lane in lanes]


def test_something_else_is_done_while_lanes_end_also_where_one_ends_alone() -> None:
    gate = threading.Barrier(2)
    done: list[str] = []

    def meanwhile() -> None:
        gate.wait(WAIT_S_MAX)  # the lane is ending, in another thread
        done.append(threading.current_thread().name)

    together = Together(meanwhile=meanwhile)
    lane = Lane(together, 0, gate)
    idle = Lane(together, 1, gate)
    idle.is_open = False

    together.end(0)
    together.end(1)

    assert [threading.current_thread().name] == done
    assert [1, 0] == [lane.ends, idle.ends]
    assert threading.current_thread().name != lane.thread
