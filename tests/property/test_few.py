"""A block of few messages goes one by one through every step, and leads to what arrays lead to."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import few
from schemas.blocks import Outputs
from schemas.columns import distinct
from schemas.records import Records
from tests.messages import Bench, Message
from tests.property.test_gate import cut, cuts, streams


def plain(outputs: Outputs) -> Any:
    """All that a block leads to, but for what was sealed: every sealing draws a nonce."""
    assert isinstance(outputs.records, Records)
    stamped = outputs.records.stamped
    rows = [
        (part.table, {name: list(column) for name, column in part.columns.items()})
        for part in outputs.rows
    ]
    for _, columns in rows:
        if "latency_hist" in columns:
            columns["latency_hist"] = [line.tolist() for line in columns["latency_hist"]]
    refused = [(one.topic, one.key, one.headers, one.origin) for one in outputs.records.singles]
    return stamped.as_list() if stamped else [], refused, rows, outputs.counts


def passed(blocks: list[list[Message]], many: int) -> tuple[list[Any], bytes]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(few, "MANY", many)
        bench = Bench()
        found = [plain(bench.pass_(*block)) for block in blocks]
    return found, bench.gate.dump()


@given(streams, cuts)
@settings(max_examples=80, deadline=None)
def test_few_lead_to_the_same_records_rows_and_state_as_arrays_do(
    stream: list[Message], sizes: list[int]
) -> None:
    for blocks in ([stream], cut(stream, sizes)):
        assert passed(blocks, 1) == passed(blocks, 1_000)


@given(st.lists(st.integers(-(2**62), 2**62) | st.integers(0, 5), max_size=20))
@settings(max_examples=40, deadline=None)
def test_distinct_values_are_those_of_numpy(values: list[int]) -> None:
    given_ = np.array(values, np.int64)
    expected = [column.tolist() for column in np.unique(given_, return_inverse=True)]

    for many in (1, 1_000):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(few, "MANY", many)
            assert expected == [column.tolist() for column in distinct(given_)]
