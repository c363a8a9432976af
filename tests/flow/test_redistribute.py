"""Lanes' states in another number of cells: the engine goes on from what was written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bytewax.operators as op
import pytest
from bytewax.dataflow import Dataflow
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.testing import run_main

from connectors.lane_sink import lane_key
from connectors.memory import Journal, MemorySink
from flows.cells import Cell, Home, Manifest, opened_store, owned
from flows.redistribute import redistribute
from schemas.errors import AirsideError

LANES = 4
SHAPE = Manifest("count", LANES, ("read", "count", "write"), 1)


class Counted(FixedPartitionedSource[tuple[str, int], int]):
    """Each lane gives the next three numbers, then ends."""

    def __init__(self, lanes: range) -> None:
        self.lanes = lanes

    def list_parts(self) -> list[str]:
        return [lane_key(lane) for lane in self.lanes]

    def build_part(self, _step_id: str, for_part: str, resume_state: int | None) -> CountedLane:
        return CountedLane(for_part, resume_state or 0)


class CountedLane(StatefulSourcePartition[tuple[str, int], int]):
    def __init__(self, key: str, at: int) -> None:
        self.key, self.at, self.end = key, at, at + 3

    def next_batch(self) -> list[tuple[str, int]]:
        if self.at == self.end:
            raise StopIteration
        self.at += 1
        return [(self.key, self.at)]

    def snapshot(self) -> int:
        return self.at


def run(home: Home, cells: int) -> list[Any]:
    """Run one generation of all cells, one after another; gives the sums that came out."""
    journal = Journal()
    shape = Manifest("count", LANES, ("read", "count", "write"), cells)
    with owned(home, shape) as manifest:
        for number in range(cells):
            cell = Cell(number, cells)
            flow = Dataflow("count")
            read = op.input("read", flow, Counted(cell.lanes(LANES)))
            sums = op.stateful_map(
                "count", read, lambda total, n: ((total or 0) + n, (total or 0) + n)
            )
            sink: MemorySink[Any] = MemorySink("out", journal, LANES)
            named = op.map("name", sums, lambda item: (item[0], item))
            op.output("write", named, sink)
            with opened_store(home, cell, generation=manifest.generation) as store:
                run_main(flow, recovery_config=store)
    return journal.items("out")


def last(items: list[Any]) -> dict[str, int]:
    return dict(items)


@pytest.mark.parametrize("path", [(1, 3, 2), (4, 1, 4), (2, 3, 1)])
def test_lanes_keep_their_state_in_any_number_of_cells(
    tmp_path: Path, path: tuple[int, ...]
) -> None:
    home = Home(tmp_path, "count")
    for turn, cells in enumerate(path, 1):
        if turn > 1:
            shape = Manifest("count", LANES, SHAPE.steps, path[turn - 2])
            with owned(home, shape) as manifest:
                fresh = redistribute(home, manifest, cells)
            assert (cells, manifest.generation + 1) == (fresh.cells, fresh.generation)
        total = sum(range(3 * turn + 1))
        assert {lane_key(lane): total for lane in range(LANES)} == last(run(home, cells))
        assert [f"cell-{n}-of-{cells}" for n in range(cells)] == sorted(
            folder.name for folder in home.stores.glob("cell-*")
        )


def test_a_store_that_cannot_be_read_changes_nothing(tmp_path: Path) -> None:
    home = Home(tmp_path, "count")
    run(home, 2)
    part = home.store(Cell(1, 2)) / "part-0.sqlite3"
    part.write_bytes(part.read_bytes()[:5_000])
    shape = Manifest("count", LANES, SHAPE.steps, 2)
    with owned(home, shape) as manifest, pytest.raises(AirsideError, match="recovery store"):
        redistribute(home, manifest, 3)

    assert 2 == (home.read_manifest() or SHAPE).cells
    assert not home.store(Cell(0, 3)).exists()
