"""How many bytes Airside holds: for a person, an event, an open cell in memory; for an event in
ClickHouse. Open journeys have a measurement of their own: `python -m tests.measure.journeys`."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import numpy as np

from flows.steps.deduplicate import Memory
from flows.steps.enrich import ProfileTable
from flows.steps.roll_up import Rollup
from schemas.rollup import Dimensions
from tests.bench.environments import TOP, child_environment
from tests.bench.stage import Stage
from tests.bench.systems.airside import People
from tests.bench.tables import ask

START_MS: Final = 1_800_000_000_000
MERGE: Final = (
    "OPTIMIZE TABLE airside.facts FINAL",
    "OPTIMIZE TABLE airside.rollup_1m_lanes FINAL",
    "OPTIMIZE TABLE airside.fates FINAL",
    "OPTIMIZE TABLE airside.quarantine FINAL",
)
STORED: Final = (
    "SELECT table, sum(rows), sum(bytes_on_disk) FROM system.parts WHERE database = 'airside' "
    "AND active AND table IN ('facts', 'rollup_1m_lanes', 'fates', 'quarantine') "
    "GROUP BY table ORDER BY table FORMAT TSV"
)
KIND_0: Final = np.zeros(5_000, np.int64)
EACH: Final = np.arange(5_000)
ZONES: Final = ("Europe/Berlin", "Europe/Malta", "America/New_York", "Asia/Tokyo")


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def grown_by(make: Callable[[int], object], count: int) -> float:
    """Bytes of resident memory for each of so many, which `make` makes and holds."""
    gc.collect()
    before = resident_bytes()
    held = make(count)
    gc.collect()
    grown = resident_bytes() - before
    del held
    return round(max(grown, 0) / count, 1)


def profiles(count: int) -> ProfileTable:
    """One profile for each person, as the gate keeps them."""
    table = ProfileTable()
    for number in range(count):
        consent = {"engagement_tracking": True, "offers": number % 3 == 0}
        zone = ZONES[number % len(ZONES)]
        table.hold(SimpleNamespace(subject=f"usr_{number:08d}", zone=zone, consent=consent))
    return table


def events(count: int) -> Memory:
    """So many accepted events, as the gate remembers them to know a repeat."""
    memory = Memory(ttl_ms=1 << 40, entries_max=count)
    for first in range(0, count, 5_000):
        numbers = range(first, min(first + 5_000, count))
        keys = [number * 0x9E3779B97F4A7C15 % 2**64 for number in numbers]
        memory.remember_all(
            keys=keys,
            events=[key ^ 1 for key in keys],
            contents=[key ^ 2 for key in keys],
            purposes=[1] * len(keys),
            at_ms=[START_MS + number for number in numbers],
        )
    return memory


def cells(count: int) -> Rollup:
    """So many open cells: 3,000 sets of dimensions in as many minutes as it takes."""
    rollup = Rollup(count)
    kinds = [Dimensions("seen", f"c{number}", "email", "GDPR,PII", "") for number in range(3_000)]
    numbers = [rollup.number_of(kind) for kind in kinds]
    nothing = [0] * len(kinds)
    for minute in range(-(-count // len(kinds))):
        size = min(len(kinds), count - minute * len(kinds))
        rollup.add(
            minutes=[minute] * size,
            numbers=numbers[:size],
            amounts=nothing[:size],
            buckets=nothing[:size],
            recorded=nothing[:size],
        )
    return rollup


def counters(level: str) -> Callable[[int], People]:
    """Five counters for each person, as job C keeps them."""

    def make(count: int) -> People:
        people = People(level)
        for first in range(0, count, 5_000):
            names = [f"usr_{number:08d}" for number in range(first, min(first + 5_000, count))]
            people.add(names, EACH[: len(names)], KIND_0[: len(names)])
        return people

    return make


def in_memory(count: int, level: str) -> dict[str, float]:
    """Bytes for each, every one in a process of its own: freed memory would be used again."""
    found = {}
    for name in MADE:
        command = [sys.executable, "-m", "tests.bench.held", name, str(count), level]
        ended = subprocess.run(
            command, cwd=TOP, env=child_environment(), capture_output=True, text=True, check=True
        )
        found[name] = float(ended.stdout)
    return found


def in_tables(stage: Stage) -> dict[str, dict[str, float]]:
    """Rows and bytes on disk of the tables that the whole flow wrote, merged to one part."""
    for statement in MERGE:
        ask(stage.clickhouse_url, statement)
    found = {}
    for line in ask(stage.clickhouse_url, STORED).splitlines():
        table, rows, size = line.split("\t")
        each = round(int(size) / max(int(rows), 1), 1)
        found[table] = {"rows": int(rows), "bytes": int(size), "bytes_each": each}
    return found


def show(stage: Stage, messages: int, count: int, level: str) -> dict[str, Any]:
    """Both; `bytes_per_event` is all these tables' for each message that came in."""
    tables = in_tables(stage)
    size = sum(table["bytes"] for table in tables.values())
    return {
        "memory": in_memory(count, level),
        "of": count,
        "tables": tables,
        "bytes_per_event": round(size / messages, 1),
    }


MADE: Final[dict[str, Callable[[int, str], object]]] = {
    "profile": lambda count, _level: profiles(count),
    "remembered_event": lambda count, _level: events(count),
    "open_cell": lambda count, _level: cells(count),
    "counted_person": lambda count, level: counters(level)(count),
}


def main() -> None:
    """Bytes of one thing: NAME COUNT LEVEL."""
    name, count, level = sys.argv[1:]
    MADE[name](10, level)
    sys.stdout.write(f"{grown_by(lambda size: MADE[name](size, level), int(count))}\n")


if __name__ == "__main__":
    main()
