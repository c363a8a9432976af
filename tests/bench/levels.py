"""What reading costs at each level, against the raw loop in the same run: rounds in turn.

`python -m tests.bench.levels MANIFEST --rounds 3`, on a stage that `tests.bench keep` holds.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any, Final

from connectors.clock import SystemClock
from connectors.kafka.lanes import LaneSource
from connectors.native.level import load_native
from flows.garbage import tune_garbage_collection
from schemas.ticket_reader import TicketReader
from tests.bench.meter import MARK, Meter, Task, await_more, leave, read_task, report
from tests.messages import policy

STEPS: Final = ("drain", "read", "tickets")
REST_S: Final = 0.015


def run(task: Task) -> None:
    """One step in this process: `job` is the step, and every message is seen."""
    native = task.level == "native"
    source = LaneSource(
        bootstrap_servers=task.bootstrap_servers,
        lanes=1,
        tables=(),
        streams=(task.topic,),
        clock=SystemClock(),
        stop=lambda: False,
        level="native" if native else "pure",
    )
    part = source.build_part("read_lanes", "000", None)
    reader, meter, seen, tickets = TicketReader(policy()), Meter(), 0, 0
    tune_garbage_collection()
    intake: Any = part._intake
    while seen < task.messages:
        if task.job == "drain":
            found = intake.read(source.block_messages_max)
            if len(found):
                meter.begin()
            else:
                time.sleep(REST_S)
            seen += len(found)
            continue
        await_more(part)
        for _, block in part.next_batch():
            meter.begin()
            seen += len(block.values)
            if task.job == "tickets":
                tickets += len(reader.read_block(block.headers)[0])
    assert load_native() is not None or not native
    report(meter.end(), {"seen": seen, "tickets": tickets}, {})


def measure(module: str, manifest: str, job: str, level: str) -> float:
    """CPU microseconds for each message of one run."""
    command = [sys.executable, "-m", module, manifest, job, level]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    line = next(line for line in done.stdout.splitlines() if line.startswith(MARK))
    found = json.loads(line.removeprefix(MARK))
    messages = json.loads(Path(manifest).read_text(encoding="utf-8"))["messages"]
    return float(found["measured"]["cpu_s"]) / int(messages) * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("manifest")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    spent: dict[tuple[str, str], list[float]] = {}
    wanted = [("raw", ""), *((step, level) for step in STEPS for level in ("pure", "native"))]
    for _ in range(args.rounds):
        for step, level in wanted:
            module = "tests.bench.systems.raw" if step == "raw" else "tests.bench.levels"
            job = "A" if step == "raw" else step
            cost = measure(module, args.manifest, job, level)
            spent.setdefault((step, level), []).append(cost)
            sys.stdout.write(f"{step:8} {level:7} {cost:6.2f} us CPU each\n")
            sys.stdout.flush()
    raw = median(spent["raw", ""])
    for (step, level), found in spent.items():
        cost = median(found)
        spread = f"{min(found):.2f} to {max(found):.2f}"
        line = f"{step:8} {level:7} {cost:6.2f} us, {raw / cost:5.2f} x raw ({spread})"
        sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    if len(sys.argv) > 2 and sys.argv[2] in STEPS:
        run(read_task())
        leave()
    main()
