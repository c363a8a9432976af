"""Judge the policies that were asked for, and print what was found."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Mapping
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table

from connectors.clickhouse.client import connect
from connectors.clickhouse.reader import read_rows
from connectors.clock import SystemClock
from flows.evaluate.job import Outcome, Wish, run_evaluation
from flows.model.evidence.off_policy import Estimate, Evaluation
from flows.settings import read_settings


def show_evaluation(options: Namespace) -> int:
    """Judge policies on the decision log; 1 when a figure comes with a warning."""
    settings = read_settings()
    names = options.policy or ([] if options.policies else ["uniform", "model", "best-hour"])
    wish = Wish(
        policies=tuple(dict.fromkeys(names)),
        since_ms=SystemClock().now_ms() - options.since * 1_000,
        campaign=options.campaign,
        file=options.policies,
    )
    client = connect(settings.clickhouse_address)

    def read(query: str, parameters: Mapping[str, Any], name: str) -> list[tuple[Any, ...]]:
        return read_rows(client, query, parameters, name=name)

    try:
        outcome = run_evaluation(read, wish)
    finally:
        client.close()
    if options.json:
        sys.stdout.buffer.write(to_json(outcome) + b"\n")
    else:
        console = Console(highlight=False)
        console.print(to_table(outcome))
        for line in warnings_of(outcome):
            console.print(line, markup=False, soft_wrap=True)
    return 1 if any(one.warnings for one in outcome.evaluations) else 0


def to_json(outcome: Outcome) -> bytes:
    """All figures."""
    return orjson.dumps(
        {
            "since_ms": outcome.since_ms,
            "campaign": outcome.campaign or None,
            "cut": outcome.cut,
            "policies": [_as_json(one) for one in outcome.evaluations],
        }
    )


def _as_json(one: Evaluation) -> dict[str, Any]:
    estimates = {
        name: {"value": found.value, "low": found.low, "high": found.high}
        for name, found in (
            ("logged", one.logged),
            ("ips", one.ips),
            ("snips", one.snips),
            ("doubly_robust", one.doubly_robust),
        )
    }
    counts = {"decisions": one.decisions, "subjects": one.subjects, "effective": one.effective}
    about = {"mean_weight": one.mean_weight, "warnings": list(one.warnings)}
    return {"policy": one.policy, **counts, **estimates, **about}


def to_table(outcome: Outcome) -> Table:
    """One line a policy: mean responses per send, each with its 95 % interval."""
    table = Table("policy", "IPS", "SNIPS", "doubly robust", "effective decisions", box=None)
    for one in outcome.evaluations:
        estimates = (_words(found) for found in (one.ips, one.snips, one.doubly_robust))
        table.add_row(one.policy, *estimates, f"{one.effective:.0f} of {one.decisions}")
    logged = outcome.evaluations[0].logged
    table.add_row("as logged", _words(logged), "", "", "")
    return table


def _words(found: Estimate) -> str:
    return f"{found.value:.4f} [{found.low:.4f}, {found.high:.4f}]"


def warnings_of(outcome: Outcome) -> list[str]:
    """What makes figures doubtful, a line each."""
    lines = [f"{one.policy}: {text}" for one in outcome.evaluations for text in one.warnings]
    if outcome.cut:
        lines.append("the newest decisions only: there were more in this span")
    return lines
