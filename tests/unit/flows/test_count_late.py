"""Profiles that come when their minute may be closed: counted apart, and as their facts say."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.steps.count_late import PLACE_BITS
from schemas.blocks import Outputs
from schemas.rollup import MINUTE_MS, bucket_of
from schemas.ticket import format_time
from tests.messages import (
    HOUR_MS,
    NOW_MS,
    Bench,
    Message,
    block,
    delivered,
    profile,
    rows_of,
    with_header,
)
from tests.unit.flows.memory_run import FakeTables

OLD_MS = NOW_MS // HOUR_MS * HOUR_MS - 30 * HOUR_MS
TABLE = "rollup_1m_lanes"


def at(number: int, *, after_ms: int = 1_000, at_ms: int = OLD_MS, **more: Any) -> Message:
    """A profile of an old minute that was on its way for so long."""
    named = profile(number, subject=f"usr_{number:016d}")
    timed = with_header(named, "ce_time", format_time(at_ms + number))
    for name, value in more.items():
        timed = with_header(timed, f"ce_{name}", value.encode())
    return timed._replace(recorded_ms=at_ms + number + after_ms)


def long_on_its_way(number: int, **more: Any) -> Message:
    return at(number, after_ms=29 * HOUR_MS + number, **more)


def soon_recorded(number: int, **more: Any) -> Message:
    """One that nobody read while its broker was away, say."""
    return at(number, after_ms=1_000, **more)


def close_the_past(bench: Bench) -> list[Outputs]:
    """The slowest partition of the lane is at now, a day after what is closed."""
    return [bench.pass_(profile(900)), bench.pass_(delivered(901))]


Counted = dict[tuple[int, str, str], tuple[int, list[int]]]


def counted(outputs: Iterable[Outputs]) -> tuple[Counted, Counted]:
    """By minute, type and class: what the tables' rollup says, and what their facts make."""
    tables = FakeTables()
    for output in outputs:
        for rows in output.rows:
            tables.insert(rows)
    rollup: Counted = {}
    facts: Counted = {}
    for row in tables.table(TABLE):
        key = (int(row["w"]) // MINUTE_MS, row["event_type"], row["class"])
        n, hist = rollup.get(key, (0, [0] * 32))
        pairs = zip(hist, row["latency_hist"], strict=True)
        rollup[key] = (n + int(row["n"]), [one + int(other) for one, other in pairs])
    for row in tables.table("facts"):
        key = (int(row["event_time"]) // MINUTE_MS, row["event_type"], row["class"])
        n, hist = facts.get(key, (0, [0] * 32))
        hist[bucket_of(int(row["recorded_at"]) - int(row["event_time"]))] += 1
        facts[key] = (n + 1, hist)
    return rollup, facts


def old_cells(bench: Bench) -> list[Outputs]:
    """A minute with three profiles in time, of two classes, and its cells closed."""
    other = at(3, dataclassification="PII")
    return [bench.pass_(at(1), at(2), other), *close_the_past(bench)]


@pytest.mark.parametrize("late", [long_on_its_way, soon_recorded])
def test_rollups_are_the_facts_however_many_profiles_come_for_a_closed_minute(late: Any) -> None:
    bench = Bench()
    outputs = old_cells(bench)
    outputs += [bench.pass_(late(11), late(12)), bench.pass_(late(13))]
    outputs += [*close_the_past(bench), bench.pass_(late(14, dataclassification="PII"))]

    rollup, facts = counted(outputs)
    assert facts == rollup
    minute = OLD_MS // MINUTE_MS
    assert [2, 5] == sorted(n for (at, _, _), (n, _) in rollup.items() if at == minute)


@pytest.mark.parametrize("late", [long_on_its_way, soon_recorded])
def test_a_late_profile_is_in_a_row_of_its_own_and_in_no_memory(late: Any) -> None:
    bench = Bench()
    old_cells(bench)
    before = bench.gate.rollup.dump()

    [row, again] = rows_of(bench.pass_(late(11), late(12)), TABLE)

    places = [4 + 1, 5 + 1]  # behind the three in time and the one of now
    assert places == [row["late"], again["late"]]
    assert (OLD_MS, 1, 1) == (row["w"], row["n"], row["ver"])
    assert 1 == sum(row["latency_hist"])
    assert before == bench.gate.rollup.dump()


def test_a_block_of_both_is_told_apart() -> None:
    bench = Bench()
    outputs = old_cells(bench)
    mixed = bench.pass_(profile(20), long_on_its_way(21), profile(22), soon_recorded(23))

    rows = rows_of(mixed, TABLE)
    assert [(1, True), (1, True), (3, False)] == sorted((row["n"], row["late"] > 0) for row in rows)
    rollup, facts = counted([*outputs, mixed])
    assert facts == rollup


def test_records_of_two_partitions_have_rows_of_their_own() -> None:
    bench = Bench()
    outputs = [bench.pass_(long_on_its_way(part + 1), partition=part) for part in (0, 4, (1 << 20))]

    lates = [row["late"] for output in outputs for row in rows_of(output, TABLE)]
    assert [1, (4 << PLACE_BITS) + 1, (1 << 20 + PLACE_BITS) + 1] == lates


@pytest.mark.parametrize("late", [long_on_its_way, soon_recorded])
def test_an_epoch_that_is_repeated_writes_the_same_rows(late: Any) -> None:
    bench, again = Bench(), Bench()
    outputs = old_cells(bench)
    state, places = bench.gate.dump(), dict(bench._next)
    lost = [bench.pass_(late(11), late(12)), *close_the_past(bench), bench.pass_(late(13))]
    again.gate.load(state)
    again._next = places
    repeated = [again.pass_(late(11), late(12)), *close_the_past(again), again.pass_(late(13))]

    assert [rows_of(output, TABLE) for output in lost] == [
        rows_of(output, TABLE) for output in repeated
    ]
    rollup, facts = counted([*outputs, *lost, *repeated])
    assert facts == rollup
    assert bench.gate.dump() == again.gate.dump()


def test_a_repetition_in_other_blocks_changes_nothing() -> None:
    bench, again = Bench(), Bench()
    outputs = old_cells(bench)
    state, places = bench.gate.dump(), dict(bench._next)
    outputs += [bench.pass_(long_on_its_way(11), long_on_its_way(12), soon_recorded(13))]
    again.gate.load(state)
    again._next = places
    outputs += [again.pass_(one) for one in (long_on_its_way(11), long_on_its_way(12))]
    outputs += [again.pass_(soon_recorded(13))]

    rollup, facts = counted(outputs)
    assert facts == rollup


def test_a_lane_that_begins_anew_counts_what_was_long_on_its_way_once() -> None:
    """It reads the profiles first, before anything is closed: their own times tell."""
    bench, anew = Bench(), Bench()
    sent = [at(1), at(2), profile(900), long_on_its_way(11), long_on_its_way(12)]
    outputs = [bench.pass_(*sent[:3]), bench.pass_(delivered(901)), bench.pass_(*sent[3:])]
    outputs += [anew.pass_(*sent), anew.pass_(delivered(901))]

    rollup, facts = counted(outputs)
    assert facts == rollup


def test_an_event_of_a_stream_is_never_counted_apart() -> None:
    """What is not refused there has its cell, however long it was on its way."""
    bench = Bench()
    slow = delivered(1, at_ms=NOW_MS - 300 * HOUR_MS)

    [row] = rows_of(bench.pass_(slow), TABLE)
    assert 0 == row["late"]


class Stream:
    """A lane through time: profiles of two old minutes, and hours that go by."""

    def __init__(self) -> None:
        self.bench = Bench()
        self.bench.pass_(delivered(901, at_ms=OLD_MS))
        self.bench.pass_(profile(900))

    def take(self, number: int, kinds: Sequence[str]) -> list[Outputs]:
        sent = [self._profile(number * 100 + at, kind) for at, kind in enumerate(kinds)]
        passed = [self.bench.pass_(*sent)] if sent else []
        # The old minutes are closed behind the third.
        hour_ms = OLD_MS + min(20 + 5 * number // 2, 30) * HOUR_MS
        return [*passed, self.bench.pass_(delivered(number, at_ms=hour_ms))]

    def _profile(self, number: int, kind: str) -> Message:
        at_ms = OLD_MS + number % 2 * MINUTE_MS
        return at(number, at_ms=at_ms, after_ms=29 * HOUR_MS if kind == "long" else number)


epochs = st.lists(st.lists(st.sampled_from(["long", "soon"]), max_size=4), min_size=1, max_size=8)


@given(epochs, st.data())
@settings(max_examples=60, deadline=None)
def test_rollups_are_the_facts_whenever_profiles_come_and_wherever_a_crash_is(
    drawn: list[list[str]], data: st.DataObject
) -> None:
    steady, first, again = Stream(), Stream(), Stream()
    wanted = [out for number, kinds in enumerate(drawn) for out in steady.take(number, kinds)]
    kept = data.draw(st.integers(0, len(drawn)))
    crash = data.draw(st.integers(kept, len(drawn)))
    outputs = [out for number in range(kept) for out in first.take(number, drawn[number])]
    state, places = first.bench.gate.dump(), dict(first.bench._next)
    outputs += [out for number in range(kept, crash) for out in first.take(number, drawn[number])]
    again.bench.gate.load(state)
    again.bench._next = places
    outputs += [out for at in range(kept, len(drawn)) for out in again.take(at, drawn[at])]

    rollup, facts = counted(outputs)
    assert facts == rollup
    assert (rollup, facts) == counted(wanted)


def test_a_late_profile_that_is_read_again_counts_no_more() -> None:
    bench = Bench()
    old_cells(bench)
    bench.pass_(long_on_its_way(11))
    again = bench.gate.pass_block(bench.checker.check(block([long_on_its_way(11)], first=4)))

    assert [] == again.rows
