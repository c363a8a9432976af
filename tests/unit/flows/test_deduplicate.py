"""The memory of accepted events: what it tells apart, what it forgets, what a snapshot keeps."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.steps.deduplicate import Memory, Sight
from tests.messages import HOUR_MS, NOW_MS, Bench, block, delivered, rows_of

BUCKET_MS = 600_000


def memory(*, ttl_ms: int = HOUR_MS, entries_max: int = 1_000) -> Memory:
    return Memory(ttl_ms, entries_max)


def see(held: Memory, event: int, **more: int) -> Sight:
    told = {"source": 1, "content": 7, "purpose": 3, "now_ms": NOW_MS, **more}
    return held.see(event=event, **told)


def test_the_first_word_counts_and_later_ones_are_held_against_it() -> None:
    held = memory()

    assert Sight.NEW is see(held, 5)
    assert Sight.REPEAT is see(held, 5)
    assert Sight.CONFLICT is see(held, 5, content=8)
    assert Sight.REPEAT is see(held, 5)
    assert Sight.NEW is see(held, 5, source=2, content=8)
    assert Sight.CONFLICT is see(held, 5, source=2)


def test_an_event_is_remembered_for_its_time_to_live_at_least() -> None:
    held = memory()
    see(held, 5, now_ms=NOW_MS)

    held.forget_before(NOW_MS + HOUR_MS)
    assert Sight.REPEAT is see(held, 5)
    held.forget_before(NOW_MS + HOUR_MS + BUCKET_MS)
    assert Sight.NEW is see(held, 5)


def test_a_repeat_does_not_prolong_what_is_remembered() -> None:
    held = memory()
    see(held, 5)
    see(held, 5, now_ms=NOW_MS + HOUR_MS)
    held.forget_before(NOW_MS + HOUR_MS + BUCKET_MS)

    assert Sight.NEW is see(held, 5)


def test_above_the_bound_the_oldest_goes_first() -> None:
    held = memory(entries_max=10)
    for number in range(30):
        see(held, number, now_ms=NOW_MS + number * BUCKET_MS)
    held.forget_before(NOW_MS)

    assert 10 == len(held)
    assert [10 * 8, 10 * 2, 10 * 8, 10 * 8] == [*map(len, held.dump()["purposes"])]
    assert Sight.REPEAT is see(held, 29, now_ms=NOW_MS)
    assert Sight.NEW is see(held, 19, now_ms=NOW_MS)


def test_the_purpose_of_a_forgotten_event_is_forgotten_too() -> None:
    held = memory()
    see(held, 5, purpose=9)
    assert 9 == held.purpose_of(5, now_ms=NOW_MS)

    held.forget_before(NOW_MS + 2 * HOUR_MS)

    assert held.purpose_of(5, now_ms=NOW_MS) is None


def test_two_memories_share_nothing() -> None:
    one, other = memory(), memory()
    see(one, 5)

    assert Sight.NEW is see(other, 5)


@given(
    st.lists(
        st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.integers(0, 40_000_000)),
        max_size=40,
        unique_by=lambda seen: seen[0],
    )
)
@settings(max_examples=60, deadline=None)
def test_a_snapshot_brings_everything_back(seen: list[tuple[int, int, int]]) -> None:
    held, again = memory(), memory()
    for event, content, after in seen:
        see(held, event, content=content, now_ms=NOW_MS + after, purpose=after % 16)
    dumped = held.dump()
    again.load(dumped)

    assert dumped == again.dump()
    held.forget_before(NOW_MS + 30_000_000)
    again.forget_before(NOW_MS + 30_000_000)
    assert held.dump() == again.dump()


def test_a_snapshot_is_a_copy() -> None:
    held = memory()
    see(held, 5)
    dumped = held.dump()
    before = {name: list(columns) for name, columns in dumped.items()}
    see(held, 6)
    held.forget_before(NOW_MS + 2 * HOUR_MS)

    assert before == dumped


def sights(bench: Bench, *codes_of: Any) -> list[str]:
    return [bench.code_of(message) for message in codes_of]


def test_what_may_not_change_is_type_time_and_body_and_nothing_else() -> None:
    bench = Bench()
    first = delivered(1)
    bench.pass_(first)

    assert ["T602", "T602", "T603", "T603", "T603"] == sights(
        bench,
        first._replace(recorded_ms=NOW_MS + 1),
        delivered(1, traceparent="00-" + "a" * 32 + "-" + "b" * 16 + "-01"),
        delivered(1, at_ms=NOW_MS - 1),
        delivered(1, type="ntf.delivery.queued.v1"),
        first._replace(value=(first.value or b"") + b" "),
    )


def test_a_refused_message_is_not_remembered() -> None:
    bench = Bench()
    broken = delivered(1)._replace(value=b"{")
    assert "T303" == bench.code_of(broken)
    assert "T404" == bench.code_of(delivered(2, datapurpose="marketing"))

    assert ["", ""] == sights(bench, delivered(1), delivered(2))


def test_the_same_event_twice_in_one_block_is_one_event() -> None:
    outputs = Bench().pass_(delivered(1), delivered(1), delivered(1))

    assert [("T602", 1), ("T602", 2)] == [
        (row["code"], row["off"]) for row in rows_of(outputs, "quarantine")
    ]
    assert [1] == [row["n"] for row in rows_of(outputs, "rollup_1m_lanes")]


def test_a_repeat_on_another_partition_or_topic_of_the_lane_is_seen() -> None:
    bench = Bench()
    bench.pass_(delivered(1))
    outputs = bench.pass_(delivered(1), partition=4)

    assert ["T602"] == [row["code"] for row in rows_of(outputs, "quarantine")]


def test_one_id_from_two_sources_survives_when_the_older_is_forgotten() -> None:
    held = memory()
    see(held, 5, source=1, now_ms=NOW_MS)
    see(held, 5, source=2, now_ms=NOW_MS + 2 * HOUR_MS, purpose=4)
    held.forget_before(NOW_MS + 2 * HOUR_MS)
    again = memory()
    again.load(held.dump())

    assert 4 == again.purpose_of(5, now_ms=NOW_MS + 2 * HOUR_MS)
    assert Sight.REPEAT is see(again, 5, source=2)


@pytest.mark.parametrize("count", [1, 60])
def test_one_id_from_two_sources_survives_when_the_older_has_to_make_room(count: int) -> None:
    held = memory(entries_max=count)
    for source, purpose in ((1, 3), (2, 4)):
        for event in range(count):
            see(held, event, source=source, purpose=purpose)
    held.forget_before(NOW_MS)

    assert [4] * count == [held.purpose_of(event, now_ms=NOW_MS) for event in range(count)]
    assert all(Sight.REPEAT is see(held, event, source=2) for event in range(count))
    assert Sight.NEW is see(held, 0, source=1)


def test_the_newest_event_is_remembered_when_the_bound_is_passed_within_one_bucket() -> None:
    bench = Bench(time={"duplicates_max": 1_000})
    bench.pass_(*(delivered(number) for number in range(1_001)))

    assert "T602" == bench.code_of(delivered(1_000))


def test_the_bound_holds_while_a_partition_was_not_read_at_all() -> None:
    bench = Bench(time={"duplicates_max": 1_000})
    for number in range(4):
        at_ms = NOW_MS - 20 * HOUR_MS + number * HOUR_MS
        messages = [delivered(number * 1_000 + n, at_ms=at_ms) for n in range(1_000)]
        raw = block(messages, first=number * 1_000)
        raw.unread = True
        bench.gate.pass_block(bench.checker.check(raw))

    assert len(bench.gate.memory) <= 1_000


def test_whether_an_event_is_a_repeat_does_not_depend_on_the_cut() -> None:
    old = NOW_MS - 5 * HOUR_MS
    stream = [delivered(1, at_ms=old), delivered(2), delivered(1, at_ms=old)]
    whole, parts = Bench().pass_(*stream), Bench()
    cut = [parts.pass_(message) for message in stream]

    codes = [row["code"] for outputs in cut for row in rows_of(outputs, "quarantine")]
    assert [row["code"] for row in rows_of(whole, "quarantine")] == codes
