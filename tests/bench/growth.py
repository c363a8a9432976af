"""How the cost grows: one thing of the traffic changes at a time, each beside the raw loop."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from tests.bench.compare import Comparison
from tests.bench.corpus import Shape
from tests.bench.stage import set_up
from tests.bench.talk import say

USUAL: Final = Shape()
STEPS: Final[dict[str, tuple[int, ...]]] = {
    "users": (1_000, 1_000_000),
    "partitions": (1, 16),
    "body_bytes": (600, 2_400),
    "malformed_each": (0, 20, 5),
    "more_headers": (4, 12),
}
JOB: Final = "C"


def shapes() -> Iterator[tuple[str, int, Shape]]:
    """What changed, to what, and the traffic with it; first the usual one."""
    yield "usual", 0, USUAL
    for name, values in STEPS.items():
        for value in values:
            yield name, value, USUAL._replace(**{name: value})


def play(
    folder: Path, *, messages: int, level: str, rounds: int, run_s_max: float, cache: Path
) -> dict[str, Any]:
    """Job C over each traffic, on a broker of its own.

    Shapes: one row each; `x_raw` is our events per CPU-second over those of the raw loop in the
    same rounds, `x_usual` our CPU over that of the usual traffic, both per event.
    """
    ours = f"airside-{level}"
    rows: list[dict[str, Any]] = []
    for name, value, shape in shapes():
        with set_up(folder / f"{name}-{value}", messages=messages, shape=shape) as stage:
            comparison = Comparison(stage, cache=cache, run_s_max=run_s_max)
            comparison.play(systems=("raw", ours), jobs=JOB, rounds=rounds)
        costs = {system: _cost_us(comparison, system) for system in ("raw", ours)}
        row = {
            "changed": name,
            "to": value,
            "x_raw": comparison.ratio(ours, "raw", JOB),
            "raw_us": costs["raw"],
            "ours_us": costs[ours],
        }
        row["x_usual"] = round(costs[ours] / (rows[0]["ours_us"] if rows else costs[ours]), 2)
        rows.append(row)
        say(str(row))
    return {"job": JOB, "level": level, "messages": messages, "rounds": rounds, "growth": rows}


def _cost_us(comparison: Comparison, system: str) -> float:
    runs = comparison.figures()[JOB, system]
    spent = sorted(run.cpu_s for run in runs)
    return round(spent[len(spent) // 2] / comparison.messages * 1e6, 2)
