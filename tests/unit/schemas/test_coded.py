from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from schemas import blocks
from schemas.blocks import Coded, group

WORDS = st.sampled_from(["", "spring", "harbour", "offers"])
ROWS = st.lists(st.tuples(WORDS, WORDS, WORDS), min_size=1, max_size=40)


def columns(rows: list[tuple[str, str, str]]) -> list[Coded]:
    return [Coded.of(column) for column in zip(*rows, strict=True)]


@given(ROWS)
def test_a_coded_column_is_the_same_row_by_row(rows: list[tuple[str, str, str]]) -> None:
    for found, column in zip(columns(rows), zip(*rows, strict=True), strict=True):
        assert list(column) == found.tolist()
        assert len(set(column)) == len(found.words)


def test_a_word_is_made_once_for_each_value() -> None:
    made: list[str] = []

    def word_of(value: str) -> str:
        made.append(value)
        return value.upper()

    assert ["A", "B", "A"] == Coded.of(["a", "b", "a"], word_of).tolist()
    assert ["a", "b"] == made


@given(ROWS)
def test_rows_are_grouped_when_they_are_alike_in_all_columns(
    rows: list[tuple[str, str, str]],
) -> None:
    first, back = group(columns(rows))

    assert list(dict.fromkeys(rows)) == [rows[place] for place in first.tolist()]
    assert rows == [rows[first[number]] for number in back.tolist()]


def test_columns_of_very_many_words_are_grouped_too() -> None:
    """Their product is more than a code holds, so the codes are made small in between."""
    wide = [Coded([""] * (blocks._CODES_MAX >> 40), np.array([3, 3, 5, 3])) for _ in range(8)]
    wide[7].codes = np.array([1, 1, 1, 2])
    first, back = group(wide)

    assert [0, 2, 3] == first.tolist()
    assert [0, 0, 1, 2] == back.tolist()
