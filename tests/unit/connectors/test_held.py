"""Rows held by their cells: of each the latest is left, whole, and no more than was promised."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.clickhouse.gather import APART_MIN, Gathered
from connectors.clickhouse.held import Held
from connectors.clickhouse.tables import TABLES
from flows.steps.roll_up import Rollup
from schemas.blocks import Coded, Rows
from schemas.rollup import Dimensions

TABLE = TABLES["rollup_1m_lanes"]


def make_rows(cells: list[int], first: int) -> Rows:
    numbers = np.arange(first, first + len(cells))
    columns: dict[str, Any] = {
        "cell": [f"cell {cell}" for cell in cells],
        "n": numbers,
        "parts": np.outer(numbers, np.arange(3)),
        "word": Coded(["even", "odd"], numbers % 2),
    }
    return Rows("made_up", len(cells), columns, np.array(cells, np.int64))


def told(rows: Rows) -> list[tuple[Any, ...]]:
    columns = [rows.columns[name] for name in ("cell", "n", "parts", "word")]
    plain = [one if isinstance(one, list) else one.tolist() for one in columns]
    return [(cell, n, tuple(parts), word) for cell, n, parts, word in zip(*plain, strict=True)]


blocks_of_cells = st.lists(
    st.lists(st.integers(0, 30), min_size=1, max_size=60, unique=True), max_size=80
)


@given(blocks=blocks_of_cells)
def test_the_latest_row_of_each_cell_is_left(blocks: list[list[int]]) -> None:
    held, wanted, number = Held(), {}, 0
    for cells in blocks:
        rows = make_rows(cells, number)
        wanted.update(dict(zip(cells, told(rows), strict=True)))
        number += len(cells)
        held.add(rows)
        assert len(wanted) == len(held)
    left = [row for rows in held.take() for row in told(rows)]
    assert sorted(wanted.values()) == sorted(left)
    assert not held
    assert held.take() == []


def test_rows_that_were_replaced_are_not_kept() -> None:
    held = Held()
    for number in range(2_000):
        held.add(make_rows([1, 2, 3], number))
        kept = sum(part.size for part in held._parts)
        assert kept <= 2 * 3 + 1_000 + 3
    assert [3] == [rows.size for rows in held.take()]


def blocks_of_a_rollup(lane: int, sizes: list[int]) -> list[Rows]:
    rollup, rng, found = Rollup(), np.random.default_rng(lane), []
    dimensions = [Dimensions("ntf.a.v1", f"c{n}", "push", "PII", "") for n in range(40)]
    for size in sizes:
        changed = rollup.add(
            minutes=(20_000_000 + rng.integers(0, 30, size)).tolist(),
            numbers=[rollup.number_of(dimensions[n]) for n in rng.integers(0, 40, size)],
            amounts=rng.integers(0, 9, size).tolist(),
            buckets=rng.integers(0, 32, size).tolist(),
            recorded=rng.integers(1, 2**40, size).tolist(),
        )
        found.append(rollup.rows(changed, lane=lane))
    return found


def keys_of(rows: list[dict[str, Any]]) -> dict[tuple[Any, ...], dict[str, Any]]:
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        key = tuple(row[name] for name in TABLE.key)
        if row["ver"] >= found.get(key, row)["ver"]:
            found[key] = row
    return found


@pytest.mark.parametrize("lanes", [1, 2])
@pytest.mark.parametrize("small", [0, 5], ids=["large blocks", "small ones between"])
def test_a_rollup_with_cells_is_the_same_rollup_without(lanes: int, small: int) -> None:
    """Two lanes may share a writer; blocks of a few rows wait apart, as plain values."""
    sizes = [900, *[small] * bool(small), 2_000, 700, *[small] * bool(small)]
    every = [blocks_of_a_rollup(lane, sizes) for lane in range(lanes)]
    with_cells, without = Gathered(TABLE), Gathered(TABLE)
    for blocks in zip(*every, strict=True):
        for rows in blocks:
            assert (rows.size >= APART_MIN) == (rows.size > small)
            with_cells.add(rows)
            without.add(rows._replace(cells=None))
    wanted = keys_of(pa.Table.from_batches(without.batches()).to_pylist())
    assert len(wanted) <= len(with_cells)
    part = with_cells.take()
    found = pa.Table.from_batches(part.batches()).to_pylist()
    assert len(found) == len(wanted)
    assert keys_of(found) == wanted
    assert not len(with_cells)
