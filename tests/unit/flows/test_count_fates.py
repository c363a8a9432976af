"""The books: absolute counts by run of offsets, which add up to what came in."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.steps.count_fates import RUN, Fate, Ledger, Tally
from schemas.codes import CODES, Door
from tests.messages import NOW_MS, Bench, Message, block, delivered, profile, rows_of

TOPIC = "ntf.delivery.v1"
SOURCE = "/sender/postwing"


def told(ledger: Ledger, *entries: tuple[int, int, str, int]) -> list[tuple[Any, ...]]:
    tally: Tally = Counter({(part, run, code, SOURCE): n for part, run, code, n in entries})
    columns = ledger.enter(TOPIC, tally, lane=2).columns
    names = ("part", "run", "door", "code", "n", "ver")
    return list(zip(*(columns[name] for name in names), strict=True))


def test_counts_are_absolute_and_their_version_is_the_count() -> None:
    ledger = Ledger()

    assert [(0, 0, "routed", "", 3, 3)] == told(ledger, (0, 0, "", 3))
    assert [(0, 0, "routed", "", 5, 5), (0, 0, "dropped", "T602", 1, 1)] == told(
        ledger, (0, 0, "", 2), (0, 0, "T602", 1)
    )


def test_a_new_run_starts_at_nothing_and_a_block_may_span_two() -> None:
    ledger = Ledger()
    told(ledger, (0, 0, "", 3))

    assert [(0, 0, "routed", "", 4, 4), (0, 1, "routed", "", 2, 2)] == told(
        ledger, (0, 1, "", 2), (0, 0, "", 1)
    )
    assert [(0, 1, "routed", "", 3, 3)] == told(ledger, (0, 1, "", 1))


def test_partitions_are_counted_apart() -> None:
    ledger = Ledger()
    told(ledger, (0, 0, "", 3), (4, 7, "", 5))

    assert [(0, 0, "routed", "", 4, 4), (4, 7, "routed", "", 6, 6)] == told(
        ledger, (4, 7, "", 1), (0, 0, "", 1)
    )


@pytest.mark.parametrize("code", ["", *CODES])
def test_a_fate_leaves_by_the_door_of_its_code(code: str) -> None:
    assert (CODES[code].door if code else Door.ROUTED) is Fate(code, SOURCE).door


def test_a_snapshot_is_a_copy_and_survives_its_encoding() -> None:
    ledger, again = Ledger(), Ledger()
    told(ledger, (0, 0, "", 3), (0, 0, "T303", 2))
    dumped = ledger.dump()
    told(ledger, (0, 0, "", 1))
    again.load(msgspec.msgpack.decode(msgspec.msgpack.encode(dumped)))

    assert [(0, 0, "routed", "", 4, 4)] == told(again, (0, 0, "", 1))
    assert [(0, 0, "quarantined", "T303", 3, 3)] == told(again, (0, 0, "T303", 1))


def mixed(number: int, kind: int) -> Message:
    return [
        delivered(number),
        delivered(number)._replace(value=b"{"),
        delivered(number, source="/sender/mailreef"),
        delivered(number)._replace(headers=[]),
        delivered(number, datapurpose="marketing"),
    ][kind]


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), min_size=1, max_size=30),
    st.integers(0, 12),
    st.integers(1, 9),
)
@settings(max_examples=50, deadline=None)
def test_the_last_row_of_each_cell_counts_each_offset_once(
    seen: list[tuple[int, int]], before_the_border: int, size: int
) -> None:
    """Across the border between two runs, with gaps as compaction and transactions leave them."""
    bench = Bench()
    offset = RUN - before_the_border
    offsets: list[int] = []
    for gap, _ in seen:
        offsets.append(offset)
        offset += 1 + gap
    messages = [mixed(number, kind) for number, (_, kind) in enumerate(seen)]
    kept: dict[tuple[Any, ...], int] = {}
    for at in range(0, len(messages), size):
        raw = block(messages[at : at + size])
        raw.offsets = offsets[at : at + size]
        for row in rows_of(bench.gate.pass_block(bench.checker.check(raw)), "fates"):
            key = tuple(row[name] for name in ("topic", "part", "run", "door", "code", "source"))
            assert row["n"] == row["ver"] > kept.get(key, 0)
            kept[key] = row["n"]

    runs = Counter(offset // RUN for offset in offsets)
    counted: Counter[int] = Counter()
    for key, count in kept.items():
        counted[key[2]] += count
    assert runs == counted


def test_each_source_sees_its_own_refusals() -> None:
    rows = rows_of(
        Bench().pass_(
            delivered(1, source="/a", datapurpose="gossip"),
            delivered(2, source="/b", datapurpose="gossip"),
            delivered(3, source="not a source"),
        ),
        "fates",
    )

    assert {("/a", "T201", 1), ("/b", "T201", 1), ("", "T102", 1)} == {
        (row["source"], row["code"], row["n"]) for row in rows
    }


def test_what_is_read_again_is_not_counted_again() -> None:
    bench = Bench()
    raw = block([profile(1), profile(2)._replace(value=None), profile(3)._replace(value=b"{")])
    bench.gate.pass_block(bench.checker.check(raw))

    again = bench.gate.pass_block(bench.checker.check(raw))

    assert ([], [], 0) == (again.records, again.rows, sum(again.counts.values()))


def test_a_block_that_is_partly_known_counts_the_rest() -> None:
    bench = Bench()
    bench.pass_(delivered(1), delivered(2))
    raw = block([delivered(number) for number in (1, 2, 3)])
    outputs = bench.gate.pass_block(bench.checker.check(raw))

    assert [3] == [row["n"] for row in rows_of(outputs, "fates")]
    assert ["evt-000000000003"] == [row["event_id"] for row in rows_of(outputs, "facts")]
    assert [NOW_MS] == [row["event_time"] for row in rows_of(outputs, "facts")]
