"""One cell against two: processes that share the lanes, and how much the machine had left."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from tests.bench.compare import WrongError
from tests.bench.environments import TOP, child_environment
from tests.bench.meter import MARK
from tests.bench.stage import Stage
from tests.bench.talk import say

CELLS: Final = (1, 2)
DOORS: Final = ("routed", "refused")


def play(
    stage: Stage, *, level: str, rounds: int, run_s_max: float, ahead: bool = False
) -> dict[str, Any]:
    """Job A in one and in two cells by turns, `ahead` with all messages fetched before.

    Units: rates in messages a second of wall time.
    """
    runs = [
        {"round": number, "cells": cells, **play_once(stage, cells, level, run_s_max, ahead=ahead)}
        for number in range(1, rounds + 1)
        for cells in CELLS
    ]
    rates = {
        cells: statistics.median(run["rate"] for run in runs if run["cells"] == cells)
        for cells in CELLS
    }
    speedup = round(rates[2] / rates[1], 3)
    say(f"two cells do {speedup:.2f} times what one does")
    return {"speedup": speedup, "runs": runs}


def play_once(
    stage: Stage, cells: int, level: str, run_s_max: float, *, ahead: bool
) -> dict[str, Any]:
    """So many cells at the same time; their counts together are checked.

    Errors: WrongError when they are not the expected ones.
    """
    module = f"tests.bench.systems.{'ahead' if ahead else 'airside'}"
    command = [sys.executable, "-m", module, str(stage.manifest), "A", level]
    started = [
        subprocess.Popen(
            [*command, f"{cell}/{cells}"],
            cwd=TOP,
            env=child_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for cell in range(cells)
    ]
    if ahead:
        for process in started:
            _wait_until_ready(process)
    idle_s, all_s = machine_s()
    for process in started:
        _let_go(process)
    told = [_result(process.communicate(timeout=run_s_max)[0]) for process in started]
    idle_s, all_s = (now - then for now, then in zip(machine_s(), (idle_s, all_s), strict=True))
    for door in DOORS:
        found: Counter[str] = Counter()
        for part in told:
            found.update(part["counts"][door])
        if stage.expected[door] != dict(sorted(found.items())):
            raise WrongError(f"{cells} cells counted another {door} than expected")
    messages = sum(sum(stage.expected[door].values()) for door in DOORS)
    cpu_s = sum(part["measured"]["cpu_s"] for part in told)
    wall_s = max(part["measured"]["wall_s"] for part in told)
    outcome = {
        "rate": round(messages / wall_s),
        "cpu_us_each": round(cpu_s / messages * 1e6, 2),
        "idle_share": round(idle_s / all_s, 3),
    }
    say(f"{cells} cells: {outcome}")
    return outcome


def _wait_until_ready(process: subprocess.Popen[str]) -> None:
    """A cell that ends instead gives an empty line, and no result afterwards."""
    assert process.stdout is not None
    process.stdout.readline()


def _let_go(process: subprocess.Popen[str]) -> None:
    """Begin together: what one would do while the other still fetches is not measured."""
    assert process.stdin is not None
    with suppress(BrokenPipeError):  # it has ended, and its missing result is told
        process.stdin.write("\n")
        process.stdin.flush()


def _result(text: str) -> dict[str, Any]:
    lines = [line for line in text.splitlines() if line.startswith(MARK)]
    if not lines:
        raise WrongError("a cell ended without a result")
    found: dict[str, Any] = json.loads(lines[-1].removeprefix(MARK))
    return found


def machine_s() -> tuple[float, float]:
    """Idle time and all time of all processors since the machine started."""
    fields = Path("/proc/stat").read_text().splitlines()[0].split()[1:9]
    ticks = [int(field) / os.sysconf("SC_CLK_TCK") for field in fields]
    return ticks[3] + ticks[4], sum(ticks)
