"""What an execution saved of an epoch that it did not end, no later start may read."""

from __future__ import annotations

import pickle
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import bytewax.operators as op
import pytest
from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig
from bytewax.testing import TestingSink, TestingSource, run_main

from connectors.recovery import read_store
from connectors.recovery_write import forget_ahead, write_store

STEP = "counted.count.stateful_batch"


def run(
    folder: Path, keys: list[str], *, start: int = 0, dies: bool = False
) -> list[tuple[str, int]]:
    """One execution, an epoch an item: how many of each key there were so far.

    Shapes: `start` items were given by earlier executions. At an end, but for one by death, the
    engine saves every key again.
    """
    found: list[tuple[str, int]] = []
    flow = Dataflow("counted")
    ends = [TestingSource.ABORT()] if dies else []
    items = [("-", 1)] * start + [(key, 1) for key in keys] + ends
    lines = op.input("read", flow, TestingSource(items))

    def count(state: int | None, one: int) -> tuple[int, int]:
        total = (state or 0) + one
        return total, total

    op.output("write", op.stateful_map("count", lines, count), TestingSink(found))
    run_main(
        flow,
        epoch_interval=timedelta(0),
        recovery_config=RecoveryConfig(folder, backup_interval=timedelta(0)),
    )
    return found


def leave_ahead(folder: Path, key: str, total: int) -> None:
    """What a kill leaves that came after a snapshot was written and before its epoch's end."""
    store = read_store(folder)
    (step,) = {step for step, found in store.states if found == key and step != "counted.read"}
    with closing(sqlite3.connect(folder / "part-0.sqlite3")) as part, part:
        part.execute(
            "INSERT OR REPLACE INTO snaps (step_id, state_key, snap_epoch, ser_change)"
            " VALUES (?, ?, ?, ?)",
            (step, key, store.resume_epoch, pickle.dumps(total)),
        )


@pytest.fixture
def store(tmp_path: Path) -> Path:
    write_store(tmp_path / "store", {})
    assert run(tmp_path / "store", ["a", "b", "a"]) == [("a", 1), ("b", 1), ("a", 2)]
    leave_ahead(tmp_path / "store", "a", 700)
    return tmp_path / "store"


def continued(store: Path, *, forgets: bool) -> int:
    """What a start finds of "a" after an execution that met "b" alone."""
    if forgets:
        forget_ahead(store)
    run(store, ["b", "b", "b"], start=3, dies=True)
    found = run(store, ["a"] * 9, start=3)
    return found[-1][1] - len(found)


def test_without_it_the_engine_reads_what_a_dead_execution_left(store: Path) -> None:
    """The control: should the engine mend this, `forget_ahead` may go."""
    assert continued(store, forgets=False) == 700


def test_with_it_a_start_reads_what_was_durable(store: Path) -> None:
    assert continued(store, forgets=True) == 2


def test_what_is_durable_stays(store: Path) -> None:
    before = read_store(store)
    assert forget_ahead(store) == 1
    assert forget_ahead(store) == 0
    after = read_store(store)
    assert (before.states, before.resume_epoch) == (after.states, after.resume_epoch)


def test_nothing_is_removed_where_a_part_is_missing(tmp_path: Path) -> None:
    """Where the next start begins may be told by the part that is not here."""
    write_store(tmp_path / "store", {("s", "a"): pickle.dumps(1)}, parts=2)
    with closing(sqlite3.connect(tmp_path / "store" / "part-0.sqlite3")) as part, part:
        part.execute(
            "INSERT INTO snaps (step_id, state_key, snap_epoch, ser_change)"
            " VALUES ('s', 'a', 99, ?)",
            (pickle.dumps(2),),
        )
    (tmp_path / "store" / "part-1.sqlite3").unlink()
    assert forget_ahead(tmp_path / "store") == 0
