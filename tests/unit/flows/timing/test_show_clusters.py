"""Clusters as people see them: lanes put together, and one line for each."""

from __future__ import annotations

import msgspec
import numpy as np
import orjson
import pytest
from rich.console import Console

from flows.timing.calendar import DAY_MS
from flows.timing.show_clusters import (
    Shown,
    bars,
    caption,
    of_living_lanes,
    put_together,
    to_json,
    to_table,
)
from tests.messages import NOW_MS

HOURS = np.arange(24)


def one(lane: int, peak: float, people: int, *, sends: int = 100, responses: int = 10) -> Shown:
    day = np.exp(3 * np.cos((HOURS - peak) * np.pi / 12))
    hours = tuple((day / day.sum()).tolist())
    return Shown((lane,), NOW_MS + lane, 200 + lane, people, sends, responses, hours)


def peaks(shown: list[Shown]) -> list[int]:
    return [int(np.argmax(each.hours)) for each in shown]


def test_clusters_of_lanes_go_to_their_nearest_and_count_by_people() -> None:
    found = [one(0, 8, 30), one(0, 20, 10), one(1, 9, 10), one(1, 14, 7), one(1, 19, 30)]
    together = put_together(found)

    assert [8, 14, 19] == peaks(together)
    assert [40, 7, 40] == [each.people for each in together]
    assert [(0, 1), (1,), (0, 1)] == [each.lanes for each in together]
    morning = np.average([found[0].hours, found[2].hours], axis=0, weights=[30, 10])
    assert np.allclose(morning, together[0].hours)
    assert (200, 20, 0.1) == (
        together[0].sends,
        together[0].responses,
        together[0].response_rate,
    )
    assert (401, NOW_MS) == (together[0].learned, together[0].at_ms)


def test_a_lane_that_has_two_of_one_counts_its_people_twice_and_what_it_learned_once() -> None:
    lanes = [one(0, 8, 30), one(0, 14, 5), one(0, 20, 10), one(1, 8, 10), one(1, 9, 4)]
    first = put_together(lanes)[0]

    assert (44, 401, (0, 1)) == (first.people, first.learned, first.lanes)


def test_what_lanes_say_apart_is_told_by_how_much() -> None:
    same, differ = [put_together([one(0, 8, 20), one(1, peak, 20)]) for peak in (8, 20)]

    assert [0.0] == [pytest.approx(each.apart) for each in same]
    [lumped] = differ
    away = np.abs(np.array(one(0, 8, 1).hours) - np.array(one(1, 20, 1).hours)).sum() / 2
    assert pytest.approx(away / 2) == lumped.apart
    assert lumped.apart > 0.3


def test_a_lane_that_told_nothing_for_a_day_is_not_added_to_the_others() -> None:
    old = msgspec.structs.replace(one(0, 8, 30), at_ms=NOW_MS - DAY_MS)
    found = [old, one(1, 9, 10)]

    assert [found[1]] == of_living_lanes(found)
    assert [] == of_living_lanes([])


def test_one_lane_alone_is_shown_as_it_is_and_nothing_as_nothing() -> None:
    found = [one(4, 8, 30), one(4, 20, 10)]

    assert [] == put_together([])
    assert np.allclose([each.hours for each in found], [x.hours for x in put_together(found)])


def test_the_order_in_which_lanes_come_changes_nothing() -> None:
    found = [one(lane, peak, 20 + lane) for lane in range(4) for peak in (7 + lane, 15, 21)]
    there, back = put_together(found), put_together(found[::-1])

    assert peaks(there) == peaks(back)
    assert [each.people for each in there] == [each.people for each in back]


def test_lines_tell_shares_rates_and_the_day() -> None:
    found = [one(0, 8, 30), one(0, 20, 10, sends=0, responses=0), one(1, 20, 60)]
    together, by_lane = (printed(put_together(found)), printed(found, by_lane=True))

    assert ["1", "30", "30.0", "%", "10.0", "%", bars(found[0].hours)] == together[1].split()[:7]
    assert ["2", "70", "70.0", "%", "10.0", "%"] == together[2].split()[:6]
    assert ["0", "2", "10", "25.0", "%", "-"] == by_lane[2].split()[:6]
    assert ["1", "1", "60", "100.0", "%"] == by_lane[3].split()[:5]
    assert "100 people of 2 lanes, with 200 sends, by their own clocks" in caption(found)


def printed(shown: list[Shown], *, by_lane: bool = False) -> list[str]:
    console = Console(width=80)
    with console.capture() as told:
        console.print(to_table(shown, by_lane=by_lane))
    return told.get().splitlines()


def test_json_has_all_figures_and_no_rate_where_nothing_was_sent() -> None:
    [told] = orjson.loads(to_json([one(2, 8, 30, sends=0, responses=0)]))

    assert told["response_rate"] is None
    assert ([2], 30, 202, [7, 8, 9]) == tuple(
        told[name] for name in ("lanes", "people", "learned", "peak_hours")
    )
    assert 24 == len(told["hours"])
