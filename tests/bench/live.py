"""How fast the whole ingest flow works off a backlog."""

from __future__ import annotations

from pathlib import Path

from tests.bench.compare import WHOLE, Comparison, run_once
from tests.bench.scale import machine_s
from tests.bench.stage import Stage, prepare_ingest
from tests.bench.talk import say


def catch_up(
    stage: Stage, *, level: str, rounds: int, run_s_max: float, cache: Path
) -> list[float]:
    """How fast the flow with its sinks works off a filled topic. Units: messages a second."""
    prepare_ingest(stage)
    messages = Comparison(stage, cache=cache).messages
    rates = []
    for _ in range(rounds):
        idle_s, all_s = machine_s()
        run = run_once(stage, f"{WHOLE}-{level}", "A", cache=cache, run_s_max=run_s_max)
        idle_s, all_s = (now - then for now, then in zip(machine_s(), (idle_s, all_s), strict=True))
        rates.append(messages / run.wall_s)
        idle = idle_s / all_s
        pace = f"{rates[-1]:,.0f} messages a second, {run.peak_mb:,.0f} MB at most"
        say(f"caught up {pace}; {idle:.2f} of the machine was idle")
    return rates
