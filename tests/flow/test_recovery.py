"""A store that is read from outside says what the engine itself resumes from."""

from __future__ import annotations

import pickle
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import bytewax.operators as op
import pytest
from bytewax.dataflow import Dataflow
from bytewax.inputs import AbortExecution, FixedPartitionedSource, StatefulSourcePartition
from bytewax.operators import StatefulBatchLogic
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.testing import TestingSink, cluster_main

from connectors.recovery import find_cells, load_plain, read_store
from schemas.errors import ConfigError, PermanentError

Item = tuple[str, int]
Resumed = dict[tuple[str, str], Any]


class Run:
    """One execution: how far it goes, whether it ends by an abort, what it was resumed from."""

    def __init__(self, *, items: int, abort: bool) -> None:
        self.items = items
        self.abort = abort
        self.resumed: Resumed = {}


class Steps(StatefulSourcePartition[Item, dict[str, int]]):
    def __init__(self, run: Run, name: str, state: dict[str, int] | None) -> None:
        self._run = run
        self._name = name
        self._next = state["next"] if state else 0
        self._end = self._next + run.items

    def next_batch(self) -> list[Item]:
        if self._next == self._end:
            raise AbortExecution if self._run.abort else StopIteration
        self._next += 1
        return [(f"{self._name}{self._next % 3}", self._next)]

    def snapshot(self) -> dict[str, int]:
        return {"next": self._next}


class Source(FixedPartitionedSource[Item, dict[str, int]]):
    def __init__(self, run: Run) -> None:
        self._run = run

    def list_parts(self) -> list[str]:
        return ["a", "b"]

    def build_part(self, step_id: str, for_part: str, resume_state: Any) -> Steps:
        if resume_state is not None:
            self._run.resumed[step_id, for_part] = resume_state
        return Steps(self._run, for_part, resume_state)


class Sum(StatefulBatchLogic[Item, Item, bytes]):
    """Keeps (key, sum); forgets itself at every seventh number, which leaves a tombstone."""

    def __init__(self, state: bytes | None) -> None:
        self._key: str
        self._sum: int
        self._key, self._sum = load_plain(state) if state else ("", 0)

    def on_batch(self, values: list[Any]) -> tuple[list[Any], bool]:
        for key, number in values:
            self._key, self._sum = key, self._sum + number
        return values, any(number % 7 == 0 for _, number in values)

    def snapshot(self) -> bytes:
        return pickle.dumps((self._key, self._sum))


def execute(folder: Path, run: Run, *, workers: int) -> None:
    def make(state: bytes | None) -> Sum:
        if state is not None:
            run.resumed["probe.add_up", load_plain(state)[0]] = state
        return Sum(state)

    flow = Dataflow("probe")
    items = op.input("read", flow, Source(run))
    keyed = op.map("key", items, lambda item: (item[0], item))
    sums = op.stateful_batch("add_up", keyed, make)
    op.output("drop", sums, TestingSink([]))
    cluster_main(
        flow,
        [],
        0,
        epoch_interval=timedelta(0),
        recovery_config=RecoveryConfig(folder, backup_interval=timedelta(0)),
        worker_count_per_proc=workers,
    )


def stored(folder: Path) -> Resumed:
    states = read_store(folder).states
    return {name: load_plain(state) for name, state in states.items() if state is not None}


def listing(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "store"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("seed", range(4))
def test_what_is_read_is_what_the_engine_resumes_from(folder: Path, parts: int, seed: int) -> None:
    random = Random(seed)
    init_db_dir(folder, parts)
    for _ in range(5):
        before = listing(folder)
        expected = stored(folder)
        assert before == listing(folder)

        run = Run(items=random.randrange(1, 12), abort=random.random() < 0.4)
        execute(folder, run, workers=random.choice([1, 2]))

        assert expected == run.resumed
    assert len(stored(folder)) > 2


@pytest.mark.parametrize("seed", range(8))
def test_a_crash_between_the_workers_writes_is_read_as_the_engine_does(
    folder: Path, seed: int
) -> None:
    """Frontiers that differ, are missing or lie behind; snapshots at and above the least."""
    random = Random(seed)
    init_db_dir(folder, 1)
    execute(folder, Run(items=6, abort=False), workers=1)
    with closing(sqlite3.connect(folder / "part-0.sqlite3")) as part, part:
        part.execute("UPDATE commits SET commit_epoch = 2")
        part.execute("INSERT INTO exs (ex_num, worker_count, resume_epoch) VALUES (7, 3, 20)")
        for worker in random.sample(range(3), random.randrange(4)):
            epoch = random.randrange(18, 26)
            row = (7, worker, epoch)
            part.execute(
                "INSERT INTO fronts (ex_num, worker_index, worker_frontier) VALUES (?, ?, ?)", row
            )
        for key, epoch in ((key, epoch) for key in "ab" for epoch in range(18, 27)):
            change = pickle.dumps({"next": 1_000 + epoch})
            snap = ("probe.read", key, epoch, change)
            part.execute(
                "INSERT INTO snaps (step_id, state_key, snap_epoch, ser_change)"
                " VALUES (?, ?, ?, ?)",
                snap,
            )
    expected = stored(folder)
    run = Run(items=1, abort=False)
    execute(folder, run, workers=1)

    assert expected == run.resumed
    assert expected["probe.read", "a"]["next"] >= 1_019


def test_a_discarded_state_is_none_and_counted(folder: Path) -> None:
    init_db_dir(folder, 1)
    execute(folder, Run(items=7, abort=False), workers=1)
    store = read_store(folder)
    gone = [key for (_, key), state in store.states.items() if state is None]

    assert {"a1", "b1"} == set(gone)
    assert store.null_rows == len(gone)
    assert store.size_bytes == sum(len(data) for data in listing(folder).values())


def test_a_fresh_store_begins_at_the_first_epoch(folder: Path) -> None:
    init_db_dir(folder, 2)
    store = read_store(folder)

    assert (-1, 1, {}) == (store.execution, store.resume_epoch, dict(store.states))
    assert () == store.missing


def test_a_part_that_is_gone_is_named(folder: Path) -> None:
    init_db_dir(folder, 3)
    (folder / "part-1.sqlite3").unlink()

    assert (1,) == read_store(folder).missing


def test_a_part_from_an_older_copy_makes_the_others_too_new(folder: Path) -> None:
    """The engine refuses such a store, since the newer parts forgot what the older needs."""
    init_db_dir(folder, 1)
    execute(folder, Run(items=4, abort=False), workers=1)
    assert () == read_store(folder).too_old
    with closing(sqlite3.connect(folder / "part-0.sqlite3")) as part, part:
        part.execute("UPDATE fronts SET worker_frontier = 1")

    assert (0,) == read_store(folder).too_old
    with pytest.raises(Exception, match="too old"):
        execute(folder, Run(items=1, abort=False), workers=1)


def test_a_store_in_use_is_read_with_its_log_and_left_alone(folder: Path) -> None:
    init_db_dir(folder, 1)
    with closing(sqlite3.connect(folder / "part-0.sqlite3", isolation_level=None)) as writer:
        writer.execute("INSERT INTO exs (ex_num, worker_count, resume_epoch) VALUES (0, 1, 41)")
        writer.execute("BEGIN IMMEDIATE")
        names = set(listing(folder))
        assert 41 == read_store(folder).resume_epoch
        writer.execute("INSERT INTO exs (ex_num, worker_count, resume_epoch) VALUES (1, 1, 42)")
        assert 41 == read_store(folder).resume_epoch
        writer.execute("COMMIT")
        assert 42 == read_store(folder).resume_epoch
        assert names == set(listing(folder))


@pytest.mark.parametrize("place", [0, 4_096 + 8, 12_288])
def test_damaged_files_are_refused(folder: Path, place: int) -> None:
    init_db_dir(folder, 1)
    execute(folder, Run(items=9, abort=False), workers=1)
    path = folder / "part-0.sqlite3"
    with path.open("r+b") as file:
        file.seek(place)
        file.write(b"\xa5" * 200)

    with pytest.raises(PermanentError, match="from a backup, whole"):
        read_store(folder)


def test_a_folder_without_parts_is_no_store(folder: Path) -> None:
    (folder / "part-x.sqlite3").touch()

    assert [] == find_cells(folder)
    with pytest.raises(ConfigError, match=r"no file part-\*"):
        read_store(folder)


def test_cells_come_in_their_order(folder: Path) -> None:
    for number in range(12):
        (folder / f"cell-{number}-of-12").mkdir()
    (folder / "cell-x-of-12").mkdir()

    assert [*range(12)] == [cell.number for cell in find_cells(folder)]
    assert {12} == {cell.of for cell in find_cells(folder)}


class Trap:
    def __reduce__(self) -> Any:
        return (print, ("sprung",))


@pytest.mark.parametrize(
    "pickled",
    [pickle.dumps(Trap()), pickle.dumps(Path("x")), b"", b"\x80\x04", b"K", pickle.dumps(1)[:-1]],
)
def test_a_pickle_that_is_not_plain_is_refused(
    pickled: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(PermanentError, match="no plain pickle"):
        load_plain(pickled)
    assert "" == capsys.readouterr().out
