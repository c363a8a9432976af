"""The ingest dataflow in Bytewax on memory twins: an abort anywhere changes nothing in the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.testing import run_main
from bytewax.visualize import to_rendered

from connectors.memory import ABORT, Checkpointed, Journal, MemorySink, MemorySource, Produced
from flows.ingest import STEP_IDS, STREAMS, TABLES, build
from schemas.blocks import OutRecord, RawBlock, Rows
from tests.messages import (
    HOUR_MS,
    NOW_MS,
    Message,
    block,
    delivered,
    payment,
    profile,
    settings,
    with_body,
    with_header,
)
from tests.unit.flows.memory_run import FakeTables

LANES = 2


def lane_blocks(lane: int) -> list[RawBlock]:
    """Every door, both kinds of topics, profiles that change between the streams."""
    wanted: dict[str, Any] = {"datapurpose": "marketing"}
    early = NOW_MS - HOUR_MS // 2
    runs: list[list[Message]] = [
        [profile(1), profile(2, consent=["marketing"], zone="Europe/Oslo")],
        [delivered(1, at_ms=early), delivered(2, **wanted), delivered(2, **wanted)],
        [payment(3, amount_minor=500), payment(4)._replace(value=b"{")],
        [profile(3)],
        [delivered(5, **wanted), with_body(delivered(1), tenant="quay")],
        [profile(4)._replace(value=None), profile(5, consent=["marketing"])],
        [delivered(6, at_ms=NOW_MS - 30 * HOUR_MS), delivered(7, **wanted), delivered(1)],
        [payment(8, amount_minor=700), delivered(9)._replace(topic="ntf.engagement.v1")],
        [delivered(10, at_ms=early), delivered(11, dataclassification="SECRET")],
    ]
    ends: Counter[str] = Counter()
    found = []
    for run in runs:
        # Each lane has its own senders: an event is known in one lane only.
        mine = [with_header(message, "ce_source", b"/sender/%d" % lane) for message in run]
        raw = block(mine, first=ends[run[0].topic], partition=lane)
        ends[raw.topic] += len(run)
        raw.lane = lane
        found.append(raw)
    return found


BLOCKS = len(lane_blocks(0))


class Runs:
    """One flow and its recovery store, run as often as it was aborted and once more."""

    def __init__(self, folder: Path, lanes: dict[int, list[RawBlock | str]]) -> None:
        self.journal = Journal()
        self.lanes = lanes
        self.source = MemorySource(lanes, tables=TABLES)
        self.folder = folder
        folder.mkdir()
        init_db_dir(folder, 1)

    def once(self) -> None:
        flow = build(
            settings(),
            source=self.source,
            records=MemorySink("records", self.journal, LANES),
            tables=MemorySink("tables", self.journal, LANES),
        )
        recovery = RecoveryConfig(self.folder, backup_interval=timedelta(0))
        run_main(flow, epoch_interval=timedelta(0), recovery_config=recovery)

    def to_the_end(self) -> Runs:
        marks = sum(item == ABORT for items in self.lanes.values() for item in items)
        for _ in range(marks + 1):
            self.once()
        assert marks == len(self.source.aborted)
        return self

    def tables(self) -> dict[str, Any]:
        found = FakeTables()
        for rows in self._items("tables"):
            found.insert(rows)
        return {
            name: {
                key: {n: getattr(v, "tolist", lambda v=v: v)() for n, v in row.items()}
                for key, row in rows.items()
            }
            for name, rows in found.rows.items()
        }

    def records(self) -> dict[Any, Any]:
        """By origin, all but what a nonce makes different; every copy of one must be the same."""
        found: dict[Any, Any] = {}
        for record in self._items("records"):
            assert isinstance(record, OutRecord)
            body = record.value if record.topic.startswith("ntf.routed") else None
            said = (record.topic, record.key, body, tuple(record.headers))
            assert said == found.setdefault(record.origin, said)
        return found

    def _items(self, sink: str) -> Iterator[Any]:
        for part in self.journal.items(sink):
            yield from part


def steady(folder: Path) -> Runs:
    return Runs(folder, {lane: list(lane_blocks(lane)) for lane in range(LANES)}).to_the_end()


def test_the_steps_of_the_flow_are_the_committed_ones() -> None:
    flow = build(
        settings(),
        source=MemorySource({0: []}),
        records=MemorySink("records", Journal(), 1),
        tables=MemorySink("tables", Journal(), 1),
    )

    assert list(STEP_IDS) == [step.step_name for step in flow.substeps]
    assert [f"ingest.{name}" for name in STEP_IDS] == [
        step.step_id for step in to_rendered(flow).substeps
    ]
    assert len(STEP_IDS) == len(set(STEP_IDS))


def test_every_message_is_accounted_for_in_tables_and_books(tmp_path: Path) -> None:
    tables = steady(tmp_path / "s").tables()
    blocks = [raw for lane in range(LANES) for raw in lane_blocks(lane)]
    came = {
        (raw.topic, part, off)
        for raw in blocks
        for part, off in zip(raw.partitions, raw.offsets, strict=True)
    }

    told = [
        (row["topic"], row["part"], row["off"])
        for name in ("facts", "quarantine")
        for row in tables[name].values()
    ]

    assert {*STREAMS[1:], *TABLES} == {topic for topic, _, _ in came}
    assert sorted(came) == sorted(told)
    assert len(came) == sum(row["n"] for row in tables["fates"].values())
    assert {"routed", "quarantined", "dropped", "late"} == {
        row["door"] for row in tables["fates"].values()
    }


def test_the_doors_are_those_of_the_profiles_at_that_moment(tmp_path: Path) -> None:
    tables = steady(tmp_path / "s").tables()
    codes = {
        (row["topic"], row["off"]): row["code"]
        for row in tables["quarantine"].values()
        if row["part"] == 0
    }

    deliveries, engagements, profiles = "ntf.delivery.v1", "ntf.engagement.v1", "ntf.profiles.v1"
    assert {
        (deliveries, 2): "T602",
        (engagements, 1): "T303",
        (deliveries, 3): "T404",
        (deliveries, 4): "T603",
        (profiles, 3): "T606",
        (deliveries, 5): "T601",
        (deliveries, 7): "T603",
        (engagements, 3): "T301",
        (deliveries, 9): "T203",
    } == codes


@pytest.mark.parametrize("at", range(BLOCKS + 1))
def test_an_abort_at_any_block_changes_nothing_in_the_end(at: int, tmp_path: Path) -> None:
    lanes: dict[int, list[RawBlock | str]] = {
        lane: list(lane_blocks(lane)) for lane in range(LANES)
    }
    lanes[0].insert(at, ABORT)
    broken = Runs(tmp_path / "broken", lanes).to_the_end()
    whole = steady(tmp_path / "steady")

    assert whole.tables() == broken.tables()
    assert whole.records() == broken.records()


def test_aborts_at_every_block_of_every_lane_change_nothing_in_the_end(tmp_path: Path) -> None:
    lanes: dict[int, list[RawBlock | str]] = {}
    for lane in range(LANES):
        lanes[lane] = [ABORT]
        for raw in lane_blocks(lane):
            lanes[lane] += [raw, ABORT]
    broken = Runs(tmp_path / "broken", lanes).to_the_end()
    whole = steady(tmp_path / "steady")

    assert whole.tables() == broken.tables()
    assert whole.records() == broken.records()


def test_no_row_goes_back_behind_an_older_one_when_blocks_are_done_again(tmp_path: Path) -> None:
    """What is written again after an abort has the same version and says the same."""
    lanes: dict[int, list[RawBlock | str]] = {0: []}
    for raw in lane_blocks(0):
        lanes[0] += [raw, ABORT]
    broken = Runs(tmp_path / "broken", lanes).to_the_end()
    said: dict[Any, Any] = {}
    for rows in broken._items("tables"):
        assert isinstance(rows, Rows)
        if rows.table not in ("rollup_1m_lanes", "fates"):
            continue
        once = FakeTables()
        once.insert(rows)
        for key, row in once.rows[rows.table].items():
            plain = {n: getattr(v, "tolist", lambda v=v: v)() for n, v in row.items()}
            assert plain == said.setdefault((rows.table, key, plain["ver"]), plain)


def test_rows_and_records_are_written_before_their_epoch_is_durable(tmp_path: Path) -> None:
    """Between what a sink is given and the next checkpoint of that sink no other epoch begins."""
    whole = Runs(tmp_path / "s", {0: list(lane_blocks(0))}).to_the_end()
    for sink in ("records", "tables"):
        mine = [entry for entry in whole.journal.entries if entry.sink == sink]
        given = [at for at, entry in enumerate(mine) if isinstance(entry, Produced)]

        assert len(given) == BLOCKS
        for at in given:
            assert any(isinstance(entry, Checkpointed) for entry in mine[at + 1 :])
        # One block an epoch: each is made durable before the next is written.
        for one, next_one in pairwise(given):
            assert any(isinstance(entry, Checkpointed) for entry in mine[one:next_one])


def test_a_run_without_anything_new_writes_nothing(tmp_path: Path) -> None:
    runs = Runs(tmp_path / "s", {0: list(lane_blocks(0))}).to_the_end()
    before = (runs.tables(), runs.records())
    told = sum(bool(entry) for name in ("records", "tables") for entry in runs.journal.items(name))

    runs.once()

    after = sum(bool(entry) for name in ("records", "tables") for entry in runs.journal.items(name))
    assert told == after
    assert before == (runs.tables(), runs.records())


def test_the_profiles_that_are_read_again_decide_after_a_restart(tmp_path: Path) -> None:
    blocks = lane_blocks(0)
    runs = Runs(tmp_path / "s", {0: list(blocks[:6])})
    runs.once()
    runs.source = MemorySource({0: list(blocks)}, tables=TABLES)
    runs.once()
    whole = Runs(tmp_path / "whole", {0: list(blocks)}).to_the_end()

    assert whole.tables() == runs.tables()
