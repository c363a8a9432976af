"""States of earlier releases: each is read, and the lane goes on as if it had never stopped."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from connectors.journal import Journals
from connectors.kafka import lane_state as lane_state_of
from flows.ingest import TABLES
from flows.steps.gate import LaneGate
from flows.steps.upgrade import STATE_VERSION, UPGRADES
from schemas.blocks import Outputs
from schemas.errors import PermanentError
from tests.saved_states import (
    ABOUT,
    JOURNALS,
    gate_state,
    kept_state,
    lane_state,
    new_gate,
    run,
    story,
)

VERSIONS = range(1, STATE_VERSION + 1)


def loaded(state: bytes) -> LaneGate:
    gate = new_gate()
    gate.load(state)
    return gate


def told(outputs: list[Outputs]) -> list[Any]:
    """All that came out, but for the sealed text of notices, which has a nonce, and for floors.

    A floor is told one snapshot late, so a lane that was never saved tells none.
    """
    found: list[Any] = []
    for output in outputs:
        rows = [
            (
                part.table,
                {n: getattr(c, "tolist", lambda c=c: c)() for n, c in part.columns.items()},
            )
            for part in output.rows
            if part.table != "rollup_floors"
        ]
        records = [
            record._replace(value=record.value if record.topic.startswith("ntf.routed") else None)
            for record in output.records
        ]
        found.append((output.counts, rows, records))
    return found


TELLS_ARMS = 3
"""The first version that tells the arms of rollup cells apart."""


def without_cells(outputs: list[Outputs]) -> list[Outputs]:
    return [
        output._replace(rows=[part for part in output.rows if part.table != "rollup_1m_lanes"])
        for output in outputs
    ]


def sums_of_cells(gate: LaneGate) -> dict[tuple[Any, ...], tuple[int, int, list[int]]]:
    """The open cells of a lane, the arms of each added up."""
    codes = np.array(list(gate.rollup._rows), np.int64)
    columns = {
        name: getattr(column, "tolist", lambda c=column: c)()
        for name, column in gate.rollup.rows(codes, lane=0).columns.items()
    }
    sums: dict[tuple[Any, ...], tuple[int, int, list[int]]] = {}
    for place in range(len(codes)):
        names = ("w", "event_type", "campaign", "channel", "class", "currency")
        key = tuple(columns[name][place] for name in names)
        n, amount, histogram = sums.get(key, (0, 0, [0] * 32))
        pairs = zip(histogram, columns["latency_hist"][place], strict=True)
        sums[key] = (
            n + columns["n"][place],
            amount + columns["amount_minor"][place],
            [one + other for one, other in pairs],
        )
    return sums


def test_every_version_that_ever_was_is_kept_and_can_be_read() -> None:
    assert [*VERSIONS] == [*map(int, ABOUT["gate"])]
    assert {*VERSIONS} - {STATE_VERSION} == UPGRADES.keys()
    for version in VERSIONS:
        assert version == msgspec.msgpack.decode(gate_state(version))["version"]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_saved_state_holds_what_is_said_about_it(version: int) -> None:
    gate = loaded(gate_state(version))

    assert ABOUT["gate"][str(version)]["holds"] == {
        "memory": len(gate.memory),
        "rollup_cells": len(gate.rollup),
        "ledger_cells": len(gate.ledger.dump()),
        "messages": sum(n for *_, cell in gate.ledger.dump() for *_, n in cell),
        "partitions": len(gate._next),
        "refused_profiles": len(gate._refused_profiles),
        "floor_minute": gate._judge.floor_minute,
    }


@pytest.mark.parametrize("version", VERSIONS)
def test_a_lane_goes_on_from_a_saved_state_as_if_it_had_never_stopped(version: int) -> None:
    """The second half needs all of the state: memory, cells, books, floor, refused profiles."""
    before, after = story().before, story().after
    steady = new_gate()
    run(steady, before)
    resumed = loaded(gate_state(version))
    run(resumed, [block for block in before if block.topic in TABLES])

    wanted, found = run(steady, after), run(resumed, after)

    codes: Counter[str] = Counter()
    for output in wanted:
        codes.update({code: count for (_, code), count in output.counts.items()})
    assert {"", "T206", "T601", "T602", "T603"} <= {code for code, count in codes.items() if count}
    if version < TELLS_ARMS:
        # Cells of before have no arm, so a cell may be two now; together they are the same.
        assert sums_of_cells(steady) == sums_of_cells(resumed)
        wanted, found = without_cells(wanted), without_cells(found)
    assert told(wanted) == told(found)


def test_a_state_of_today_is_the_state_of_a_lane_that_never_stopped() -> None:
    steady = new_gate()
    run(steady, story().before)

    saved, told = (
        msgspec.msgpack.decode(state) for state in (gate_state(STATE_VERSION), steady.dump())
    )
    # What is remembered was saved in another order once; it means the same.
    once, today = saved.pop("memory"), told.pop("memory")
    assert saved == told
    assert [[*map(len, columns)] for columns in once.values()] == [
        [*map(len, columns)] for columns in today.values()
    ]
    assert today == loaded(gate_state(STATE_VERSION)).memory.dump() == steady.memory.dump()


def test_a_state_that_is_brought_up_differs_in_what_was_not_counted_only() -> None:
    steady, upgraded = new_gate(), loaded(gate_state(1))
    run(steady, story().before)
    whole, brought = (msgspec.msgpack.decode(gate.dump()) for gate in (steady, upgraded))

    assert {"decided": 0, "ordinals": b"", "codes": b"", "runs": []} == brought.pop("limit")
    assert whole.pop("limit")["decided"] == 85
    assert {""} == {parts[-1] for parts in brought.pop("rollup")["dimensions"]}
    assert {"", "a", "b"} == {parts[-1] for parts in whole.pop("rollup")["dimensions"]}
    assert whole == brought
    assert sums_of_cells(steady) == sums_of_cells(upgraded)


def test_a_state_with_a_journal_is_read_and_goes_on(tmp_path: Path) -> None:
    """It was saved after each block; its last epochs did not become durable."""
    shutil.copytree(JOURNALS, tmp_path, dirs_exist_ok=True)
    steady, resumed = new_gate(), new_gate()
    run(steady, story().before)
    resumed.kept.keep_in(Journals(tmp_path).open)
    resumed.load(kept_state())
    run(resumed, [block for block in story().before if block.topic in TABLES])

    assert steady.memory.dump() == resumed.memory.dump()
    assert told(run(steady, story().after)) == told(run(resumed, story().after))


@pytest.mark.parametrize("version", [0, 5, 99, -1, "4", 2.5, True, None])
def test_another_version_is_refused_in_words(version: object) -> None:
    state = msgspec.msgpack.decode(gate_state(4))
    state["version"] = version

    with pytest.raises(PermanentError) as caught:
        loaded(msgspec.msgpack.encode(state))
    assert 70 == caught.value.exit_code
    assert (
        f"could not resume lane: found state version {version}; expected version 4, or one that"
        " can be brought up to it (1, 2, 3); run the release that wrote it, or start from an empty"
        " data folder"
    ) == str(caught.value)


@pytest.mark.parametrize("dumped", [b"", b"\xc1", b"\x93\x01\x02\x03", gate_state(1)[:500]])
def test_bytes_that_are_no_state_are_refused_in_words(dumped: bytes) -> None:
    with pytest.raises(PermanentError, match="found bytes without a version; expected version 4"):
        loaded(dumped)


def test_the_offsets_of_every_version_can_be_read() -> None:
    assert [*range(1, lane_state_of.VERSION + 1)] == [*map(int, ABOUT["lane"])]
    for version, about in ABOUT["lane"].items():
        wanted = {(topic, part): offset for topic, part, offset in about["next"]}
        assert wanted == lane_state_of.read_state(lane_state(int(version)), 1)


@pytest.mark.parametrize("version", [0, 3])
def test_offsets_of_another_version_are_refused_in_words(version: int) -> None:
    with pytest.raises(PermanentError) as caught:
        lane_state_of.read_state({"version": version, "next": {}}, 3)
    assert (
        f'could not resume lane "3": found offsets of version {version}; expected version 1 to 2;'
        " run the release that wrote them"
    ) == str(caught.value)
