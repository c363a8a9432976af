"""A process that hangs is ended, one that waits or works is not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from connectors.crash import arm, crash_point
from connectors.watchdog import Watchdog
from schemas.errors import ConfigError
from tests.ingest_process import ROOT


class EndedError(Exception):
    """Stands for the end of the process."""


def end(code: int) -> None:
    raise EndedError(code)


def test_only_a_beat_that_is_too_old_ends_the_process(tmp_path: Path) -> None:
    now = [100.0]
    dog = Watchdog(limit_s=5.0, sign=tmp_path / "sign", steady_s=lambda: now[0], end=end)  # type: ignore[arg-type] # it raises
    now[0] += 5.0
    dog.look()
    dog.beat()
    assert (tmp_path / "sign").exists()
    now[0] += 4.9
    dog.look()
    now[0] += 0.2
    with pytest.raises(EndedError) as caught:
        dog.look()
    dog.stop()

    assert (70,) == caught.value.args


def test_a_clock_that_is_set_back_ends_the_process_before_the_engine_waits_for_it() -> None:
    clocks = {"steady": 100.0, "day": 1_800_000_000.0}
    said: list[str] = []
    dog = Watchdog(
        limit_s=300.0,
        say=said.append,
        steady_s=lambda: clocks["steady"],
        now_s=lambda: clocks["day"],
        end=end,  # type: ignore[arg-type] # it raises
    )
    for steady_s, day_s in ((1.0, 1.2), (1.0, 7_201.0), (1.0, 1.0), (1.0, -8.9)):
        clocks["steady"] += steady_s
        clocks["day"] += day_s
        dog.look()
    clocks["steady"] += 1.0
    clocks["day"] -= 7_199.0
    with pytest.raises(EndedError) as caught:
        dog.look()
    dog.stop()

    assert (75,) == caught.value.args
    assert ["7200 s back"] == [words[words.index("7200") :][:11] for words in said]


HANGS = """
import time
from connectors.watchdog import Watchdog
Watchdog(limit_s={limit}).start()
{act}
"""


def run(act: str, limit: float = 0.5) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", HANGS.format(limit=limit, act=act)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_process_that_hangs_leaves_its_stacks_and_ends() -> None:
    ended = run("def the_place_that_hangs():\n    time.sleep(60)\nthe_place_that_hangs()")

    assert 70 == ended.returncode
    assert "the_place_that_hangs" in ended.stderr
    assert "nothing durable for" in ended.stdout


def test_a_process_that_ends_by_itself_is_not_held_up() -> None:
    assert 0 == run("pass", limit=500).returncode


CRASHES = """
from connectors.crash import arm, crash_point
arm("{armed}")
for passage in range(3):
    crash_point("after_read")
    print(passage, flush=True)
"""


@pytest.mark.parametrize(
    ("armed", "passages", "code"),
    [("", 3, 0), ("after_read", 0, -9), ("after_read:3", 2, -9), ("draining", 3, 0)],
)
def test_an_armed_point_kills_at_its_passage(armed: str, passages: int, code: int) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", CRASHES.format(armed=armed)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (code, passages) == (ended.returncode, len(ended.stdout.splitlines()))


@pytest.mark.parametrize("text", ["nowhere", "after_read:0", "after_read:x"])
def test_a_point_that_does_not_exist_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="unset AIRSIDE_CRASH_AT"):
        arm(text)
    crash_point(text)
