"""Notes of a lane's blocks: whole lines or none, and only those that fit the resumed offsets."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

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
