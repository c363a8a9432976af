"""A cluster's store is prepared while no process of an earlier start is in it."""

from __future__ import annotations

import multiprocessing
import pickle
import sqlite3
from contextlib import closing
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from connectors.recovery_write import write_store
from flows.cluster import Use, find_store, forget_what_was_not_durable
from schemas.errors import TransientError


@pytest.fixture
def store(tmp_path: Path) -> Path:
    write_store(tmp_path / "store", {("s", "a"): pickle.dumps(1)})
    with closing(sqlite3.connect(tmp_path / "store" / "part-0.sqlite3")) as part, part:
        part.execute(
            "INSERT INTO snaps (step_id, state_key, snap_epoch, ser_change)"
            " VALUES ('s', 'b', 99, x'80')"
        )
    return tmp_path / "store"


def snapshots(store: Path) -> int:
    with closing(sqlite3.connect(store / "part-0.sqlite3")) as part:
        found: int = part.execute("SELECT count(*) FROM snaps").fetchone()[0]
        return found


def use(store: Path, line: Connection) -> None:
    """What a process does that has joined: it is there until it is told to end."""
    held = Use(store)
    held.begin()
    line.send("joined")
    line.recv()
    held.end()


def test_it_waits_for_processes_of_an_earlier_start(store: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    other = spawn.Process(target=use, args=(store, theirs))
    other.start()
    assert ours.poll(30)
    assert ours.recv() == "joined"
    with pytest.raises(TransientError, match="another process using it"):
        forget_what_was_not_durable(store, wait_s_max=0.3)
    assert snapshots(store) == 2

    ours.send("end")
    other.join(30)
    other.close()
    ours.close()
    theirs.close()
    forget_what_was_not_durable(store, wait_s_max=5.0)
    assert snapshots(store) == 1


def test_processes_that_have_not_joined_do_not_wait_for_each_other(store: Path) -> None:
    forget_what_was_not_durable(store, wait_s_max=0.3)
    forget_what_was_not_durable(store, wait_s_max=0.3)
    uses = [Use(store), Use(store)]
    for one in [*uses, *uses]:
        one.begin()
    uses[0].end()
    with pytest.raises(TransientError, match=r"set another recovery folder \(-r\)"):
        forget_what_was_not_durable(store, wait_s_max=0.3)
    uses[1].end()
    forget_what_was_not_durable(store, wait_s_max=0.3)


@pytest.mark.parametrize(
    ("arguments", "environ", "found"),
    [
        (["f:g()", "-r", "a/b", "-s", "1"], {}, Path("a/b")),
        (["f:g()", "--recovery-directory", "c"], {"BYTEWAX_RECOVERY_DIRECTORY": "d"}, Path("c")),
        (["f:g()"], {"BYTEWAX_RECOVERY_DIRECTORY": "d"}, Path("d")),
        (["f:g()", "-i", "0"], {}, None),
    ],
)
def test_the_store_is_the_one_that_the_engine_gets(
    arguments: list[str], environ: dict[str, str], found: Path | None
) -> None:
    assert find_store(arguments, environ) == found
