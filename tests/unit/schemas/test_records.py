"""Records by column are what they would be one by one."""

from __future__ import annotations

import pickle
from collections import Counter

import msgspec
import numpy as np
import pytest

from schemas.blocks import Origin, OutRecord
from schemas.records import Records, Stamped, count_topics, extent_of
from tests.records import by_column


def stamped() -> Stamped:
    return Stamped(
        source="in.v1",
        partitions=np.array([2, 1, 2]),
        offsets=np.array([7, 5, 9]),
        topics=["a.v1", "b.v1", "never.v1"],
        labels=[[("l", b"0")], [], [("l", b"2")]],
        numbers=np.array([0, 1, 0]),
        columns=[("x", [b"1", None, b""]), ("y", [b"4", b"5", b"6"])],
        rests=[(("r", None),), (), (("r", b""), ("x", b"again"))],
        keys=[b"k", None, b""],
        values=[None, b"v", b""],
    )


SINGLE = OutRecord("b.v1", b"k", b"s", [("n", None)], Origin("in.v1", 1, 3))
BY_ONE = [
    OutRecord(
        "a.v1",
        b"k",
        None,
        [("l", b"0"), ("x", b"1"), ("y", b"4"), ("r", None)],
        Origin("in.v1", 2, 7),
    ),
    OutRecord("b.v1", None, b"v", [("y", b"5")], Origin("in.v1", 1, 5)),
    OutRecord(
        "a.v1",
        b"",
        b"",
        [("l", b"0"), ("x", b""), ("y", b"6"), ("r", b""), ("x", b"again")],
        Origin("in.v1", 2, 9),
    ),
]


def test_each_record_has_the_headers_of_its_label_its_cells_and_its_rest() -> None:
    records = Records(stamped(), [SINGLE])

    assert [*BY_ONE, SINGLE] == records.as_list() == list(records)
    assert 4 == len(records)
    assert records[3] == SINGLE
    assert records[1:] == [BY_ONE[1], BY_ONE[2], SINGLE]
    assert {"OutRecord"} == {type(one).__name__ for one in records}
    assert {"Origin"} == {type(one.origin).__name__ for one in records}


def test_without_columns_and_rests_the_label_is_all() -> None:
    bare = msgspec.structs.replace(stamped(), columns=[], rests=[])

    assert [[("l", b"0")], [], [("l", b"0")]] == [one.headers for one in bare.as_list()]


@pytest.mark.parametrize(
    "records",
    [
        Records(stamped(), [SINGLE]),
        Records(None, [SINGLE]),
        Records(stamped(), []),
        Records(None, []),
        [*BY_ONE, SINGLE],
        by_column("out.v1"),
    ],
)
def test_what_is_told_of_all_is_true_of_each(records: Records | list[OutRecord]) -> None:
    each = list(records)
    extent: dict[tuple[str, int], list[int]] = {}
    for one in each:
        extent.setdefault((one.origin.topic, one.origin.partition), []).append(one.origin.offset)

    assert Counter(one.topic for one in each) == count_topics(records)
    assert {place: (min(of), max(of)) for place, of in extent.items()} == extent_of(records)


def test_they_survive_the_way_to_another_process() -> None:
    records = by_column("out.v1")

    found = pickle.loads(pickle.dumps(records))

    assert records == found
    assert found.stamped is not None
