"""What a rollup and a profile table keep stays bounded, whatever producers name."""

from __future__ import annotations

from random import Random
from typing import Any

import msgspec
import pytest

from flows.steps.enrich import ProfileTable
from flows.steps.roll_up import Rollup
from schemas.blocks import Rows
from schemas.errors import PermanentError
from tests.messages import NOW_MS, Bench, delivered, with_body
from tests.unit.flows.test_roll_up import MINUTE, Event, PlainCount, cells_of, fold


def as_lists(rows: Rows) -> dict[str, list[Any]]:
    return {name: [str(value) for value in column] for name, column in rows.columns.items()}


def reloaded(rollup: Rollup) -> Rollup:
    """The same after a stop and a start."""
    again = Rollup()
    again.load(msgspec.msgpack.decode(msgspec.msgpack.encode(rollup.dump())))
    return again


def test_dimensions_that_no_cell_has_are_forgotten_and_their_numbers_used_again() -> None:
    """A run that is cut gives the same rows in the same order as one that is not."""
    rng = Random(7)
    whole, cut, plain = Rollup(), Rollup(), PlainCount()
    written = []
    for minute in range(MINUTE, MINUTE + 300):
        names = [f"c{minute}-{n}" for n in range(rng.randrange(12))] + ["spring"]
        events = [
            Event(minute - rng.randrange(5), name, 1, 3, NOW_MS) for name in names for _ in "ab"
        ]
        rows = fold(whole, events)
        assert as_lists(rows) == as_lists(fold(cut, events))
        written.append(rows)
        for event in events:
            plain.add(event)
        for rollup in (whole, cut):
            rollup.drop_before(minute - 4)
        if rng.random() < 0.3:
            cut = reloaded(cut)

    assert plain.cells == cells_of(written)
    assert len(whole._dimensions) <= 12 * 9 + 1
    assert len(cut._dimensions) <= 12 * 9 + 1


def test_a_burst_of_dimensions_is_not_in_every_later_snapshot() -> None:
    rollup = Rollup()
    fold(rollup, [Event(MINUTE, "spring", 1, 1, NOW_MS)])
    fold(rollup, [Event(MINUTE, f"c{n}", 1, 1, NOW_MS) for n in range(3_000)])
    rollup.drop_before(MINUTE + 1)
    fold(rollup, [Event(MINUTE + 1, "autumn", 1, 1, NOW_MS)])

    assert 1 == len(rollup.dump()["dimensions"])
    assert 1 == len(reloaded(rollup))


def test_dimensions_that_an_earlier_release_kept_are_freed_by_a_load() -> None:
    rollup = Rollup()
    fold(rollup, [Event(MINUTE, f"c{n}", 1, 1, NOW_MS) for n in range(10)])
    dumped = rollup.dump()
    dumped["dimensions"] += [[f"t{n}", "spring", "email", "PII", ""] for n in range(90)]
    again = Rollup()
    again.load(dumped)

    fold(again, [Event(MINUTE, f"d{n}", 1, 1, NOW_MS) for n in range(90)])
    assert 100 == len(again) == len(again._dimensions)


def test_one_cell_too_many_stops_and_is_not_left_out() -> None:
    rollup = Rollup(cells_max=100)
    fold(rollup, [Event(MINUTE, f"c{n}", 1, 1, NOW_MS) for n in range(100)])
    fold(rollup, [Event(MINUTE, f"c{n}", 1, 1, NOW_MS) for n in range(100)])

    with pytest.raises(PermanentError, match="AIRSIDE_TIME__ROLLUP_CELLS_MAX"):
        fold(rollup, [Event(MINUTE, "one more", 1, 1, NOW_MS)])
    rollup.drop_before(MINUTE + 1)
    fold(rollup, [Event(MINUTE + 1, f"d{n}", 1, 1, NOW_MS) for n in range(100)])
    assert 100 == len(rollup)


def test_the_gate_has_the_bound_of_the_settings_and_its_error_tells_no_value() -> None:
    bench = Bench(time={"rollup_cells_max": 1_000})
    stream = [with_body(delivered(n), campaign=f"canary-{n}") for n in range(1, 1_002)]

    with pytest.raises(PermanentError, match="found 1000 open ones") as caught:
        bench.pass_(*stream)
    assert "canary" not in str(caught.value)


def test_profiles_share_parts_only_as_far_as_a_bounded_cache_remembers() -> None:
    """Consent may name any words, so no two people need say the same."""

    class Body(msgspec.Struct):
        subject: str
        zone: str
        consent: dict[str, bool]

    table = ProfileTable()
    for number in range(5_000):
        table.hold(Body(f"usr_{number}", "Asia/Tokyo", {f"p{number}": True, "never": False}))

    assert 5_000 == len(table)
    assert len(table._interned) <= 4_096
    found = table.get("usr_17")
    assert found is not None
    assert frozenset(("p17",)) == found.granted
