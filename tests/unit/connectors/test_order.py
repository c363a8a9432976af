"""Notes of a lane's blocks: whole lines or none, and only those that fit the resumed offsets."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from collections import deque
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.kafka import order
from connectors.kafka.order import Given, OrderLog, Run, describe_block
from schemas.blocks import RawBlock
from schemas.errors import PermanentError
from tests.ingest_process import ROOT

START = {("t", 0): 5, ("t", 1): 7}


def block(*places: tuple[int, int]) -> RawBlock:
    size = len(places)
    return RawBlock(
        lane=0,
        topic="t",
        received_ms=1,
        partitions=[part for part, _ in places],
        offsets=[offset for _, offset in places],
        timestamps=[0] * size,
        keys=[None] * size,
        headers=[None] * size,
        values=[None] * size,
        quiet=(("u", 3),),
        unread=True,
    )


FIRST = block((0, 5), (0, 6), (1, 7), (0, 7))
SECOND = block((1, 9))


def test_a_block_is_described_by_its_runs() -> None:
    runs = (Run(0, 5, 6, 2), Run(1, 7, 7, 1), Run(0, 7, 7, 1))
    assert Given("t", 1, (("u", 3),), True, runs) == describe_block(FIRST)


def noted(path: Path) -> None:
    log = OrderLog(path, START)
    log.note(FIRST)
    log.note(SECOND)
    log.sync()
    log.close()


@pytest.mark.parametrize(
    ("offsets", "pending"),
    [
        (START, [FIRST, SECOND]),
        ({("t", 0): 8, ("t", 1): 8}, [SECOND]),
        ({("t", 0): 8, ("t", 1): 10}, []),
        ({("t", 0): 1}, []),
        ({}, []),
    ],
)
def test_what_comes_after_the_resumed_offsets_is_pending(
    tmp_path: Path, offsets: dict[tuple[str, int], int], pending: list[RawBlock]
) -> None:
    noted(tmp_path / "000.jsonl")
    log = OrderLog(tmp_path / "000.jsonl", offsets)

    assert [describe_block(wanted) for wanted in pending] == list(log.pending)


def test_pending_blocks_outlive_a_new_beginning(tmp_path: Path) -> None:
    path = tmp_path / "000.jsonl"
    noted(path)
    log = OrderLog(path, START)
    log.pending.popleft()
    later = {("t", 0): 8, ("t", 1): 8}
    log.begin(later)
    log.close()

    assert [describe_block(SECOND)] == list(OrderLog(path, later).pending)


def test_notes_of_durable_epochs_are_no_longer_pending_and_their_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "000.jsonl"
    log = OrderLog(path, START)
    file = path.stat().st_ino
    log.note(FIRST)
    log.begin({("t", 0): 8, ("t", 1): 8})
    log.note(SECOND)
    log.close()

    assert file == path.stat().st_ino
    assert [describe_block(SECOND)] == list(OrderLog(path, {("t", 0): 8, ("t", 1): 8}).pending)


def test_many_notes_of_durable_epochs_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order, "SIZE_MAX", 2_000)
    log = OrderLog(tmp_path / "000.jsonl", {})
    sizes = []
    for offset in range(200):
        log.note(block((0, offset)))
        log.begin({("t", 0): offset + 1})
        sizes.append((tmp_path / "000.jsonl").stat().st_size)
    log.close()

    assert 1_500 < max(sizes) <= 2_000
    assert [] == list(OrderLog(tmp_path / "000.jsonl", {("t", 0): 200}).pending)


@given(
    st.lists(st.sampled_from(["note", "note", "epoch", "kill", "kill"]), max_size=40),
    st.sampled_from([0, 300, order.SIZE_MAX]),
)
def test_pending_is_what_was_given_since_the_last_durable_epoch(acts: list[str], size: int) -> None:
    """Through kills, also of a start that repeats."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(order, "SIZE_MAX", size)
        path = Path(folder) / "000.jsonl"
        durable: dict[tuple[str, int], int] = {}
        offsets, given_since = dict(durable), deque[Given]()
        log = OrderLog(path, durable)
        for number, act in enumerate(acts):
            if act == "note":
                one = block((number % 2, number), (number % 2, number + 1))
                log.note(one)
                given_since.append(describe_block(one))
                offsets["t", number % 2] = number + 2
            elif act == "epoch":
                durable = dict(offsets)
                given_since.clear()
                log.begin(durable)
            else:
                log.close()
                log = OrderLog(path, durable)
                assert given_since == log.pending
                offsets = dict(durable)
                while log.pending:  # all is given again
                    run = log.pending.popleft().runs[-1]
                    offsets["t", run.partition] = run.last + 1
        log.close()


def test_a_line_that_was_cut_short_was_never_given(tmp_path: Path) -> None:
    path = tmp_path / "000.jsonl"
    noted(path)
    path.write_bytes(path.read_bytes()[:-3])

    assert [describe_block(FIRST)] == list(OrderLog(path, START).pending)


def test_lines_of_somebody_else_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "000.jsonl"
    noted(path)
    path.write_bytes(path.read_bytes().replace(b'"t"', b"{}"))
    with pytest.raises(PermanentError, match="lines that Airside did not write"):
        OrderLog(path, START)


FULL = """
import resource, signal, sys
from pathlib import Path
from connectors.kafka.order import OrderLog
from schemas.errors import TransientError
from tests.unit.connectors.test_order import FIRST, START
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
log = OrderLog(Path(sys.argv[1]), START)
log.note(FIRST)
size = Path(sys.argv[1]).stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, resource.RLIM_INFINITY))
for _ in range(2):
    try:
        log.note(FIRST)
    except TransientError as err:
        print(err)
assert Path(sys.argv[1]).stat().st_size == size
"""


def test_a_full_disk_leaves_whole_lines_only(tmp_path: Path) -> None:
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 0
    path = tmp_path / "000.jsonl"
    ran = subprocess.run(
        [sys.executable, "-c", FULL, str(path)],
        cwd=ROOT,
        env={**os.environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (0, 2) == (ran.returncode, ran.stdout.count("make room on the disk")), ran.stderr
    assert [describe_block(FIRST)] == list(OrderLog(path, START).pending)
