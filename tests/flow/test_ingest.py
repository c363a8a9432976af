"""The ingest dataflow in Bytewax, on memory twins: wiring, crashes, order of durable steps."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.testing import run_main

from connectors.memory import ABORT, Checkpointed, Journal, MemorySink, MemorySource, Produced
from flows.ingest import STEP_IDS, TABLES, build
from schemas.blocks import Outputs, RawBlock
from tests.messages import Message, block, delivered, profile, settings
from tests.property.test_gate import final_rows

LANES = 1


def blocks() -> list[RawBlock | str]:
    """A profile, then deliveries with a repeat and a broken one among them."""
    stream: list[Message] = [delivered(n % 17) for n in range(1, 25)]
    stream[5] = stream[5]._replace(value=b"{")
    cut: list[RawBlock | str] = [block([profile()])]
    cut += [block(stream[at : at + 4], first=at) for at in range(0, len(stream), 4)]
    return cut


def run(items: list[RawBlock | str], folder: Path) -> Journal:
    """Run until the stream ends, starting again after each abort."""
    journal = Journal()
    source = MemorySource({0: items}, tables=TABLES)
    init_db_dir(folder, 1)
    flow = build(
        settings(),
        source=source,
        records=MemorySink("records", journal, LANES),
        tables=MemorySink("tables", journal, LANES),
    )
    for _ in range(1 + sum(item == ABORT for item in items)):
        run_main(
            flow,
            epoch_interval=timedelta(0),
            recovery_config=RecoveryConfig(folder, backup_interval=timedelta(0)),
        )
    return journal


def rows_in(journal: Journal) -> object:
    rows = [part for parts in journal.items("tables") for part in parts]
    return final_rows([Outputs(0, "", [], rows, {})])


def routed(journal: Journal) -> set[tuple[str, int]]:
    return {
        (record.topic, record.origin.offset)
        for records in journal.items("records")
        for record in records
    }


def test_step_ids_are_the_committed_ones() -> None:
    journal = Journal()
    flow = build(
        settings(),
        source=MemorySource({0: []}),
        records=MemorySink("records", journal, LANES),
        tables=MemorySink("tables", journal, LANES),
    )

    assert list(STEP_IDS) == [step.step_name for step in flow.substeps]


@pytest.mark.parametrize("at", range(8))
def test_an_abort_at_any_block_changes_nothing_in_the_end(at: int, tmp_path: Path) -> None:
    steady_folder, broken_folder = tmp_path / "steady", tmp_path / "broken"
    steady_folder.mkdir()
    broken_folder.mkdir()
    steady = run(blocks(), steady_folder)
    items = blocks()
    items.insert(at, ABORT)

    broken = run(items, broken_folder)

    assert rows_in(steady) == rows_in(broken)
    assert routed(steady) == routed(broken)


def test_everything_is_written_before_its_epoch_is_durable(tmp_path: Path) -> None:
    journal = run(blocks(), tmp_path)

    for sink in ("records", "tables"):
        mine = [
            entry
            for entry in journal.entries
            if (entry.sink == sink) and (isinstance(entry, Checkpointed) or bool(entry.item))
        ]
        assert isinstance(mine[0], Produced)
        assert isinstance(mine[-1], Checkpointed)


def test_a_second_run_goes_on_and_repeats_nothing(tmp_path: Path) -> None:
    journal = Journal()
    items = blocks()
    source = MemorySource({0: items[:3]}, tables=TABLES)
    init_db_dir(tmp_path, 1)
    recovery = RecoveryConfig(tmp_path, backup_interval=timedelta(0))
    for _ in range(2):
        flow = build(
            settings(),
            source=source,
            records=MemorySink("records", journal, LANES),
            tables=MemorySink("tables", journal, LANES),
        )
        run_main(flow, epoch_interval=timedelta(0), recovery_config=recovery)
        source = MemorySource({0: items}, tables=TABLES)

    offsets = [r.origin for records in journal.items("records") for r in records]
    assert len(offsets) == len(set(offsets))
    steady = tmp_path / "steady"
    steady.mkdir()
    assert rows_in(run(blocks(), steady)) == rows_in(journal)
