"""Rollups against a plain dict: sums, slabs that grow and are used again, versions, snapshots."""

from __future__ import annotations

from random import Random
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.steps.roll_up import GENERATION_BITS, Rollup
from schemas.blocks import Rows
from schemas.rollup import HISTOGRAM_BUCKETS, MINUTE_MS, Dimensions, bucket_of
from tests.messages import HOUR_MS, NOW_MS, Bench, delivered, payment, rows_of, with_body

MINUTE = NOW_MS // MINUTE_MS
SPRING = Dimensions("ntf.delivery.sent.v1", "spring", "email", "PII", "")


class Event(NamedTuple):
    """What a rollup is told of one event."""

    minute: int
    campaign: str
    amount: int
    latency_ms: int
    recorded_ms: int


class PlainCount:
    """The same cells, kept the slow way, without any of the code under test."""

    def __init__(self) -> None:
        self.cells: dict[tuple[int, str], list[Any]] = {}

    def add(self, event: Event) -> None:
        cell = self.cells.setdefault((event.minute, event.campaign), [0, 0, [0] * 32, 0])
        cell[0] += 1
        cell[1] += event.amount
        cell[2][slow_bucket(event.latency_ms)] += 1
        cell[3] = max(cell[3], event.recorded_ms)


def slow_bucket(latency_ms: int) -> int:
    """The bucket by its definition: 0 holds 0, i holds [2^(i-1), 2^i), the last all the rest."""
    if latency_ms <= 0:
        return 0
    for bucket in range(1, HISTOGRAM_BUCKETS - 1):
        if 2 ** (bucket - 1) <= latency_ms < 2**bucket:
            return bucket
    return HISTOGRAM_BUCKETS - 1


def fold(rollup: Rollup, events: list[Event]) -> Rows:
    changed = rollup.add(
        minutes=[event.minute for event in events],
        numbers=[rollup.number_of(SPRING._replace(campaign=e.campaign)) for e in events],
        amounts=[event.amount for event in events],
        buckets=[bucket_of(event.latency_ms) for event in events],
        recorded=[event.recorded_ms for event in events],
    )
    return rollup.rows(changed, lane=3)


def cells_of(rows: list[Rows]) -> dict[tuple[int, str], list[Any]]:
    """What the table keeps: of each cell the row with the greatest version."""
    found: dict[tuple[int, str], list[Any]] = {}
    versions: dict[tuple[int, str], int] = {}
    for part in rows:
        columns = part.columns
        for at in range(part.size):
            key = (int(columns["w"][at]) // MINUTE_MS, columns["campaign"][at])
            version = int(columns["ver"][at])
            if version > versions.get(key, 0):
                versions[key] = version
                found[key] = [
                    int(columns["n"][at]),
                    int(columns["amount_minor"][at]),
                    columns["latency_hist"][at].tolist(),
                    int(columns["recorded_at"][at]),
                ]
    return found


events = st.builds(
    Event,
    st.integers(MINUTE - 5, MINUTE),
    st.sampled_from(["spring", "autumn", ""]),
    st.integers(0, 99_999_999_999_999),
    st.one_of(st.integers(-9, 9), st.integers(0, 2**40)),
    st.integers(NOW_MS, NOW_MS + HOUR_MS),
)
blocks = st.lists(st.lists(events, min_size=1, max_size=12), min_size=1, max_size=8)


@given(blocks, st.randoms(use_true_random=False))
@settings(max_examples=80, deadline=None)
def test_cells_equal_a_plain_count_whatever_the_order_of_writing(
    stream: list[list[Event]], rng: Random
) -> None:
    rollup, plain = Rollup(), PlainCount()
    rows = []
    for block in stream:
        rows.append(fold(rollup, block))
        for event in block:
            plain.add(event)
    rng.shuffle(rows)

    assert plain.cells == cells_of(rows)


@given(blocks, st.integers(0, 7))
@settings(max_examples=60, deadline=None)
def test_a_snapshot_at_any_block_continues_as_if_nothing_had_happened(
    stream: list[list[Event]], at: int
) -> None:
    rollup, plain = Rollup(), PlainCount()
    rows = []
    for place, block in enumerate(stream):
        if place == at:
            dumped = rollup.dump()
            rows += [fold(rollup, lost) for lost in stream[place:]]
            rollup = Rollup()
            rollup.load(dumped)
        rows.append(fold(rollup, block))
        for event in block:
            plain.add(event)

    assert plain.cells == cells_of(rows)


def test_a_version_counts_events_and_never_falls() -> None:
    rollup = Rollup()
    versions = []
    for size in (1, 3, 2):
        rows = fold(rollup, [Event(MINUTE, "spring", 1, 1, NOW_MS)] * size)
        versions.append(rows.columns["ver"].tolist())

    assert [[1], [4], [6]] == versions


def test_a_later_generation_wins_over_any_count_of_an_earlier_one() -> None:
    rollup = Rollup()
    code = rollup.add(
        minutes=[MINUTE], numbers=[rollup.number_of(SPRING)], amounts=[0], buckets=[0], recorded=[1]
    )
    later = rollup.rows(code, lane=0, generation=1).columns["ver"]

    assert [(1 << GENERATION_BITS) + 1] == later.tolist()
    assert "uint64" == str(later.dtype)


def test_only_changed_cells_are_written_each_once() -> None:
    rollup = Rollup()
    fold(rollup, [Event(MINUTE, "spring", 1, 1, 1), Event(MINUTE, "autumn", 1, 1, 1)])
    rows = fold(rollup, [Event(MINUTE, "autumn", 1, 1, 1), Event(MINUTE, "autumn", 1, 1, 1)])

    assert (1, ["autumn"], [3]) == (rows.size, rows.columns["campaign"], rows.columns["n"].tolist())
    assert [3] == rows.columns["lane"].tolist()


def test_rows_given_away_do_not_change_with_the_cells() -> None:
    rollup = Rollup()
    rows = fold(rollup, [Event(MINUTE, "spring", 5, 1, NOW_MS)])
    before = {name: list(column) for name, column in cells_of([rows]).items()}
    fold(rollup, [Event(MINUTE, "spring", 5, 1, NOW_MS + 9)])
    rollup.drop_before(MINUTE + 1)

    assert before == cells_of([rows])


def test_more_cells_than_the_first_slabs_hold_are_kept_apart() -> None:
    rollup, plain = Rollup(), PlainCount()
    stream = [
        Event(MINUTE + n // 7, f"campaign {n % 7}", n, n, NOW_MS + n) for n in range(5_000)
    ] * 2
    rows = [fold(rollup, stream[at : at + 999]) for at in range(0, len(stream), 999)]
    for event in stream:
        plain.add(event)

    assert 5_000 == len(rollup)
    assert plain.cells == cells_of(rows)


def test_cells_are_dropped_by_their_minute_and_their_rows_start_at_nothing() -> None:
    rollup = Rollup()
    old = [Event(MINUTE - 10 + n, "spring", 100, 2**n, NOW_MS + n) for n in range(10)]
    fold(rollup, old)
    rollup.drop_before(MINUTE - 5)
    assert 5 == len(rollup)

    rows = fold(rollup, [Event(MINUTE + n, "autumn", 1, 1, 7) for n in range(8)])
    kept = fold(rollup, old[5:])

    fresh = [1, 1, [0, 1, *[0] * 30], 7]
    assert {(MINUTE + n, "autumn"): fresh for n in range(8)} == cells_of([rows])
    assert [2] * 5 == kept.columns["n"].tolist()
    assert [200] * 5 == kept.columns["amount_minor"].tolist()


def test_slabs_stay_small_when_cells_come_and_go() -> None:
    rollup = Rollup()
    for minute in range(MINUTE, MINUTE + 400):
        fold(rollup, [Event(minute, f"c{n}", 1, 1, 1) for n in range(20)])
        rollup.drop_before(minute - 9)

    assert 200 == len(rollup)
    assert 1_024 == len(rollup._count)


def test_rows_are_used_again_after_a_snapshot_as_well() -> None:
    first, again, plain = Rollup(), Rollup(), PlainCount()
    stream = [Event(MINUTE + n, "spring", n, n, NOW_MS) for n in range(1_500)]
    fold(first, stream)
    first.drop_before(MINUTE + 700)
    again.load(first.dump())
    again.drop_before(MINUTE + 1_000)
    rows = [
        fold(again, stream[1_000:]),
        fold(again, [e._replace(minute=MINUTE - 1) for e in stream]),
    ]
    for event in (*stream[1_000:] * 2, *(e._replace(minute=MINUTE - 1) for e in stream)):
        plain.add(event)

    assert plain.cells == cells_of(rows)


def test_a_snapshot_is_a_copy() -> None:
    rollup, again = Rollup(), Rollup()
    fold(rollup, [Event(MINUTE, "spring", 5, 1, NOW_MS)])
    dumped = rollup.dump()
    fold(rollup, [Event(MINUTE, "spring", 5, 1, NOW_MS), Event(MINUTE, "autumn", 5, 1, NOW_MS)])
    rollup.drop_before(MINUTE + 1)
    again.load(dumped)

    rows = fold(again, [Event(MINUTE, "spring", 1, 1, NOW_MS)])
    assert ([2], [6]) == (rows.columns["n"].tolist(), rows.columns["amount_minor"].tolist())
    assert 1 == len(again)


@pytest.mark.parametrize("latency_ms", [-1, 0, 1, 2, 3, 2**29 - 1, 2**29, 2**30 - 1, 2**30, 2**62])
def test_a_latency_is_in_the_bucket_of_its_definition(latency_ms: int) -> None:
    assert slow_bucket(latency_ms) == bucket_of(latency_ms)


def test_the_gate_rolls_up_by_event_time_and_all_five_dimensions() -> None:
    early = NOW_MS - 2 * HOUR_MS
    bench = Bench()
    rows = rows_of(
        bench.pass_(
            delivered(1, at_ms=early),
            delivered(2, at_ms=early + 59_999 - early % MINUTE_MS),
            with_body(delivered(3, at_ms=early), campaign="autumn"),
            with_body(delivered(4, at_ms=early), channel="sms"),
            delivered(5, at_ms=early, dataclassification="PUBLIC"),
            delivered(6, at_ms=early, type="ntf.delivery.queued.v1"),
        ),
        "rollup_1m_lanes",
    )
    names = ("w", "event_type", "campaign", "channel", "class", "currency", "arm")

    assert [2, 1, 1, 1, 1] == sorted((row["n"] for row in rows), reverse=True)
    assert 5 == len({tuple(row[name] for name in names) for row in rows})
    assert {early // MINUTE_MS * MINUTE_MS} == {row["w"] for row in rows}


def test_the_gate_adds_up_money_by_currency() -> None:
    bench = Bench()
    most = 99_999_999_999_999
    bench.pass_(*(payment(number, amount_minor=most) for number in range(1, 100)))
    rows = rows_of(
        bench.pass_(payment(100, amount_minor=1), with_body(payment(101), currency="JPY")),
        "rollup_1m_lanes",
    )

    assert {"EUR": (100, 99 * most + 1), "JPY": (1, 1_250)} == {
        row["currency"]: (row["n"], row["amount_minor"]) for row in rows
    }
