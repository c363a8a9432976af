"""Rows of small blocks, put together: the same rows, and none changes after it was taken."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from connectors.clickhouse.gather import APART_MIN, TOGETHER_MAX, Gathered, is_enough, to_batch
from connectors.clickhouse.tables import TABLES, Table
from schemas.blocks import Coded, Rows

TABLE = Table(
    pa.schema(
        [
            ("name", pa.string()),
            ("at", pa.timestamp("ms")),
            ("day", pa.date32()),
            ("n", pa.uint8()),
            ("share", pa.float32()),
            ("parts", pa.list_(pa.uint64())),
            ("bits", pa.binary(2)),
            ("ver", pa.uint64()),
        ]
    )
)


def make_rows(size: int, first: int = 0) -> Rows:
    numbers = np.arange(first, first + size, dtype=np.int64)
    columns: dict[str, Any] = {
        "name": Coded(["open", "click"], numbers % 2),
        "at": 1_800_000_000_000 + numbers,
        "day": (20_000 + numbers % 7).tolist(),
        "n": numbers % 200,
        "share": tuple((numbers / 7).tolist()),
        "parts": np.outer(numbers, np.arange(3)),
        "bits": [int(number % 9).to_bytes(2, "big") for number in numbers],
        "ver": numbers.astype(np.uint64) + np.uint64(2**63),
    }
    return Rows("made_up", size, columns)


def apart(blocks: list[Rows]) -> list[dict[str, Any]]:
    batches = [to_batch(rows, TABLE) for rows in blocks]
    found: list[dict[str, Any]] = pa.Table.from_batches(batches, TABLE.schema).to_pylist()
    return found


@pytest.mark.parametrize(
    "sizes",
    [
        pytest.param([1], id="one row"),
        pytest.param([3, 0, 5, 1], id="small ones and an empty one"),
        pytest.param([APART_MIN], id="a batch of its own"),
        pytest.param([2, APART_MIN, 4], id="a large one between small ones"),
        pytest.param([APART_MIN - 1] * 12, id="more than wait together"),
    ],
)
def test_rows_together_are_the_rows_apart_in_their_order(sizes: list[int]) -> None:
    blocks = [make_rows(size, 1_000 * number) for number, size in enumerate(sizes)]
    gathered = Gathered(TABLE)
    for rows in blocks:
        gathered.add(rows)
    assert sum(sizes) == len(gathered)
    together = pa.Table.from_batches(gathered.batches(), TABLE.schema)
    assert apart(blocks) == together.to_pylist()
    assert sum(sizes) == len(gathered), "asking took some of them away"


def test_small_blocks_share_a_batch() -> None:
    gathered = Gathered(TABLE)
    for number in range(50):
        gathered.add(make_rows(2, number))
    assert [100] == [batch.num_rows for batch in gathered.batches()]


def test_a_batch_is_made_before_too_many_wait() -> None:
    gathered = Gathered(TABLE)
    for number in range(2 * TOGETHER_MAX // 100):
        gathered.add(make_rows(100, number))
    assert [TOGETHER_MAX, TOGETHER_MAX] == [batch.num_rows for batch in gathered.batches()]


def test_rows_stay_as_they_were_taken_when_their_columns_change() -> None:
    rows = make_rows(4)
    wanted = apart([rows])
    gathered = Gathered(TABLE)
    gathered.add(rows)
    rows.columns["at"][:] = 0
    rows.columns["parts"][:] = 0
    rows.columns["name"].codes[:] = 0
    rows.columns["day"].clear()
    assert wanted == pa.Table.from_batches(gathered.batches()).to_pylist()


def test_rows_are_refused_whose_table_has_a_column_that_they_have_not() -> None:
    gathered = Gathered(TABLES["facts"])
    with pytest.raises(KeyError):
        gathered.add(make_rows(2))


KEYED = TABLE._replace(key=("name", "day"))


def last_of_each(blocks: list[Rows]) -> list[tuple[Any, ...]]:
    """By the tables' rule, slowly: of the rows of a key the one with the greatest version."""
    found: dict[tuple[Any, Any], tuple[int, int]] = {}
    for row in apart(blocks):
        key = (row["name"], row["day"])
        if row["ver"] >= found.get(key, (0, 0))[0]:
            found[key] = (row["ver"], row["n"])
    return sorted((*key, *told) for key, told in found.items())


@pytest.mark.parametrize(
    "sizes",
    [
        pytest.param([40], id="loose rows"),
        pytest.param([APART_MIN, 3], id="a large block before a small one"),
        pytest.param([2, APART_MIN, 5], id="a large one between small ones"),
        pytest.param([100] * 25, id="more than wait together"),
    ],
)
@pytest.mark.parametrize("newest_first", [False, True])
def test_of_a_table_with_a_key_one_row_a_key_is_left(
    sizes: list[int], *, newest_first: bool
) -> None:
    blocks = [make_rows(size, 1_000 * number) for number, size in enumerate(sizes)]
    if newest_first:
        blocks.reverse()
    gathered = Gathered(KEYED)
    for rows in blocks:
        gathered.add(rows)
    kept = pa.Table.from_batches(gathered.batches(), KEYED.schema).to_pylist()
    found = sorted((row["name"], row["day"], row["ver"], row["n"]) for row in kept)
    assert last_of_each(blocks) == found
    assert len(found) == len(gathered)


def test_rows_that_were_replaced_are_no_reason_to_send() -> None:
    """As long as less than half is left; a look that did not pay would come again at once."""
    same, others = Gathered(KEYED), Gathered(TABLE)
    for _ in range(10):
        for gathered in (same, others):
            gathered.add(make_rows(100))
    assert not is_enough([same], 1_000)
    assert is_enough([others], 1_000)
    assert not is_enough([others], 2_000)
    assert is_enough([others, others], 2_000)
