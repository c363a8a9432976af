"""The bench's results as a table for people and as JSON for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.table import Table

from flows.timing_bench.bench import Cell


def as_table(cells: Sequence[Cell], sends_at: Sequence[int]) -> Table:
    """One row a policy and world: mean share of random's regret, and its 95 % interval."""
    table = Table("world", "policy", "people", *(f"at {due} sends" for due in sends_at))
    for cell in cells:
        marks = (cell.interval(place) for place in range(len(sends_at)))
        shown = [f"{mean:.3f} ±{half:.3f}" for mean, half in marks]
        table.add_row(cell.world, cell.policy, str(cell.people), *shown)
    return table


def as_json(cells: Sequence[Cell], sends_at: Sequence[int], **run: object) -> dict[str, Any]:
    """Everything measured, a share for each seed too. Shapes: NaN becomes null."""
    return {
        **run,
        "sends_at": list(sends_at),
        "cells": [
            {
                "world": cell.world,
                "policy": cell.policy,
                "people": cell.people,
                "regret_of_random": cell.regret_of_random,
                "shares": cell.shares,
                "intervals_95": [cell.interval(place) for place in range(len(sends_at))],
            }
            for cell in cells
        ],
    }
