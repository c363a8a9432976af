"""What every system is told, how its use of the machine is taken, and how it reports.

Runs in the peers' environments too: the standard library only.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple, NoReturn

MARK: Final = "RESULT "


class Task(NamedTuple):
    """One run.

    Shapes: `ends` holds how many messages each partition has, from offset 0 on; a `cell` of several
    reads the partitions p with `p % cells == cell`, and `messages` are those.
    """

    job: str
    bootstrap_servers: str
    topic: str
    ends: dict[int, int]
    messages: int
    clickhouse_url: str
    destinations: dict[str, str]
    level: str
    cell: int
    cells: int


def read_task() -> Task:
    """The run that the command line asks for: MANIFEST JOB [LEVEL [CELL/CELLS]]."""
    manifest = json.loads(Path(sys.argv[1]).read_text())
    cell, cells = map(int, sys.argv[4].split("/")) if len(sys.argv) > 4 else (0, 1)
    ends = {int(number): end for number, end in manifest["ends"].items()}
    return Task(
        job=sys.argv[2],
        bootstrap_servers=manifest["bootstrap_servers"],
        topic=manifest["topic"],
        ends=ends,
        messages=sum(end for number, end in ends.items() if number % cells == cell),
        clickhouse_url=manifest["clickhouse_url"],
        destinations=manifest["destinations"],
        level=sys.argv[3] if len(sys.argv) > 3 else "",
        cell=cell,
        cells=cells,
    )


def await_more(part: Any) -> None:
    """Rest as the engine would before it asks a lane again: a loop that spins is paid for, too."""
    awake_at = part.next_awake()
    if awake_at is not None:
        time.sleep(max((awake_at - datetime.now(UTC)).total_seconds(), 0.0))


def cpu_s(pids: tuple[int, ...] = ()) -> float:
    """User and system time of this process with all its threads, and of these children."""
    use = resource.getrusage(resource.RUSAGE_SELF)
    spent = use.ru_utime + use.ru_stime
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
        spent += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return spent


def peak_mb(pids: tuple[int, ...] = ()) -> float:
    """The most memory that this process, and these children, ever held."""
    peak = 0.0
    for pid in ("self", *pids):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                peak += int(line.split()[1]) / 1_024
    return round(peak, 1)


class Meter:
    """From the first message to the last: start-up and imports are before it."""

    def __init__(self, pids: tuple[int, ...] = ()) -> None:
        self._pids = pids
        self._began: tuple[float, float] | None = None

    def begin(self) -> None:
        """The first message is here. Safe to repeat."""
        if self._began is None:
            self._began = (cpu_s(self._pids), time.perf_counter())

    def end(self) -> dict[str, float]:
        """The last message's work is done."""
        assert self._began is not None
        began_cpu_s, began_s = self._began
        return {
            "cpu_s": round(cpu_s(self._pids) - began_cpu_s, 4),
            "wall_s": round(time.perf_counter() - began_s, 4),
            "peak_mb": peak_mb(self._pids),
        }


def report(measured: dict[str, float], counts: dict[str, Any], versions: dict[str, str]) -> None:
    """Hand the figures to the process that asked for the run."""
    versions = {"python": sys.version.split()[0], **versions}
    line = {"measured": measured, "counts": counts, "versions": versions}
    # Past `sys.stdout`: some systems turn that into their log.
    os.write(1, f"{MARK}{json.dumps(line)}\n".encode())


def leave() -> NoReturn:
    """End at once: how a system shuts down is not measured."""
    sys.stdout.flush()
    os._exit(0)
