"""The options of `airside process`."""

from __future__ import annotations

import argparse
from typing import Final

from flows.process import ask

HELP: Final = {
    "dfg": "how often one act followed another, and after how long",
    "variants": "the ways that journeys went, by how many",
    "times": "cycle times, waiting and working, by state",
    "bottlenecks": "where most time is spent waiting",
    "rework": "acts that came again",
    "stuck": "open journeys past the deadline of their last act",
    "conformance": "how many journeys kept to the process, and what the others broke",
    "candidates": "steps that are worth automating",
}


def add_process_command(some: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `process`."""
    process = some.add_parser("process", help="mine journeys: how they go, and where they hurt")
    parts = process.add_subparsers(dest="view", required=True, metavar="VIEW")
    for name, text in HELP.items():
        parser = parts.add_parser(name, help=text)
        parser.add_argument(
            "--since", default="7d", help="journeys that started since: a span or a time in UTC"
        )
        parser.add_argument("--until", default="now", help="the end, not included")
        parser.add_argument("--campaign", default="", help="of one campaign (default: all)")
        parser.add_argument(
            "--role", default="", help="hide lines about fewer people than it may see"
        )
        parser.add_argument("--limit", type=int, default=50, help="lines at the most (default 50)")
        parser.add_argument("--format", choices=["table", "csv", "json"], default="table")
        parser.set_defaults(act=ask.process)
