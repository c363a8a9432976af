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
from schemas.errors import TransientError

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


def add_ahead(folder: Path, epoch: int) -> None:
    with closing(sqlite3.connect(folder / "part-0.sqlite3")) as part, part:
        part.execute(
            "INSERT INTO snaps (step_id, state_key, snap_epoch, ser_change)"
            " VALUES ('s', 'a', ?, ?)",
            (epoch, pickle.dumps(2)),
        )


def test_nothing_is_removed_where_a_part_is_missing(tmp_path: Path) -> None:
    """Where the next start begins may be told by the part that is not here."""
    folder = tmp_path / "store"
    write_store(folder, {("s", "a"): pickle.dumps(1)}, parts=2)
    add_ahead(folder, 99)
    (folder / "part-1.sqlite3").rename(tmp_path / "elsewhere")
    assert forget_ahead(folder) == 0
    (tmp_path / "elsewhere").rename(folder / "part-1.sqlite3")
    assert forget_ahead(folder) == 1


def test_nothing_is_removed_where_a_part_is_an_older_copy(tmp_path: Path) -> None:
    """The engine refuses such a store; once the right copy is back, all of it is needed."""
    folder = tmp_path / "store"
    write_store(folder, {("s", "a"): pickle.dumps(1)}, parts=2)
    add_ahead(folder, 50)
    with closing(sqlite3.connect(folder / "part-1.sqlite3")) as part, part:
        part.execute("INSERT INTO commits (part_index, commit_epoch) VALUES (1, 60)")
    assert forget_ahead(folder) == 0


def test_a_store_that_another_has_open_for_writing_is_told_in_words(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connectors.recovery_write._BUSY_S_MAX", 0.1)
    other = sqlite3.connect(store / "part-0.sqlite3", isolation_level=None)
    with closing(other):
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(TransientError, match="found SQLite error SQLITE_BUSY"):
            forget_ahead(store)


def test_what_could_not_be_done_in_all_parts_is_done_in_none(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    write_store(folder, {("s", "a"): pickle.dumps(1)}, parts=2)
    add_ahead(folder, 99)
    with closing(sqlite3.connect(folder / "part-1.sqlite3")) as part, part:
        part.execute("DROP TABLE snaps")
    with pytest.raises(TransientError, match="SQLITE_ERROR"):
        forget_ahead(folder)
    with closing(sqlite3.connect(folder / "part-0.sqlite3")) as part:
        assert part.execute("SELECT count(*) FROM snaps").fetchone() == (2,)
