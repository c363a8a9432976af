"""Floors of closed cells through the real flow: told late enough that nothing breaks them."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.testing import run_main

from connectors.memory import ABORT, Checkpointed, Journal, MemorySink, MemorySource, Produced
from flows.ingest import TABLES, build
from schemas.blocks import RawBlock, Rows
from schemas.rollup import MINUTE_MS
from tests.messages import HOUR_MS, NOW_MS, Bench, block, delivered, settings

DAY_MS = 24 * HOUR_MS


def blocks() -> list[RawBlock | str]:
    """Event time goes on by an hour a block, up to now."""
    return [block([delivered(n, at_ms=NOW_MS + (n - 4) * HOUR_MS)], first=n) for n in range(5)]


def floor_after(number: int) -> int:
    return (NOW_MS + (number - 4) * HOUR_MS - DAY_MS) // MINUTE_MS * MINUTE_MS


def run(items: list[RawBlock | str], folder: Path) -> Journal:
    journal = Journal()
    source = MemorySource({0: items}, tables=TABLES)
    init_db_dir(folder, 1)
    flow = build(
        settings(),
        source=source,
        records=MemorySink("records", journal, 1),
        tables=MemorySink("tables", journal, 1),
    )
    for _ in range(1 + items.count(ABORT)):
        recovery = RecoveryConfig(folder, backup_interval=timedelta(0))
        run_main(flow, epoch_interval=timedelta(0), recovery_config=recovery)
    return journal


def told(entries: list[Any]) -> list[int]:
    """Floors in the order of writing."""
    rows: list[Rows] = [
        part
        for entry in entries
        if isinstance(entry, Produced) and entry.sink == "tables"
        for part in entry.item
    ]
    return [part.columns["floor"][0] for part in rows if part.table == "rollup_floors"]


def test_a_floor_is_told_with_the_block_after_the_snapshot_that_holds_it(tmp_path: Path) -> None:
    journal = run(blocks(), tmp_path)

    assert [floor_after(n) for n in range(4)] == told(journal.entries)
    for number in range(4):
        [at] = [
            place
            for place in range(len(journal.entries))
            if told(journal.entries[: place + 1])[number:] == [floor_after(number)]
        ][:1]
        ends = [e for e in journal.entries[:at] if e == Checkpointed("tables")]
        assert number + 1 == len(ends)


def test_a_floor_that_was_not_durable_is_never_told(tmp_path: Path) -> None:
    """Else the lane, back at its snapshot, could still write a cell that others corrected."""
    items = blocks()
    items.insert(3, ABORT)
    journal = run(items, tmp_path)
    before = journal.entries[: journal.entries.index(Checkpointed("tables")) + 1]

    assert [] == told(before)
    assert [floor_after(n) for n in range(4)] == sorted(set(told(journal.entries)))


def test_a_lane_without_news_tells_nothing_and_a_restarted_one_tells_again() -> None:
    bench = Bench()
    bench.pass_(delivered(1))
    bench.pass_(delivered(2))
    dumped = bench.gate.dump()
    assert ["rollup_floors"] == [r.table for r in bench.pass_(delivered(3)).rows][-1:]
    bench.gate.dump()
    assert "rollup_floors" not in [r.table for r in bench.pass_(delivered(4)).rows]

    again = Bench()
    again.gate.load(dumped)
    old = block([delivered(1)], first=0)
    assert [] == again.gate.pass_block(again.checker.check(old)).rows
    new = block([delivered(5)], first=9)
    rows = again.gate.pass_block(again.checker.check(new)).rows
    assert "rollup_floors" in [part.table for part in rows]
