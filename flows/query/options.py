"""The options of the commands that ask for metrics."""

from __future__ import annotations

import argparse

from flows.query import ask
from flows.query import increment as increment_of
from flows.query.compile import GRAINS


def add_query_commands(some: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `query`, `objectives` and `increment`."""
    query = some.add_parser("query", help="print metrics; without one, the list of them")
    query.add_argument("metrics", nargs="*", metavar="METRIC", help="names of schemas/metrics.yaml")
    query.add_argument("--by", default="", help="dimensions, joined by commas")
    query.add_argument("--where", action="append", default=[], metavar="DIMENSION=VALUE")
    query.add_argument("--grain", default="", help=f"a line for each of: {', '.join(GRAINS)}")
    query.add_argument("--list", action="store_true", help="list metrics and their dimensions")
    query.set_defaults(act=ask.query)
    objectives = some.add_parser("objectives", help="print where the key results stand")
    objectives.set_defaults(act=ask.objectives)
    increment = some.add_parser(
        "increment", help="print what notifications earned beyond the permanent holdout"
    )
    increment.add_argument("--campaign", default="", help="of one campaign (default: all)")
    increment.set_defaults(act=increment_of.increment)
    for parser, since in ((query, "7d"), (objectives, "30d"), (increment, "30d")):
        parser.add_argument(
            "--since", default=since, help=f"a span back, or a time in UTC (default {since})"
        )
        parser.add_argument("--until", default="now", help="the end, not included")
        parser.add_argument("--currency", default="", help="of money, for example EUR")
        parser.add_argument(
            "--role", default="", help="hide lines about fewer people than it may see"
        )
        parser.add_argument("--format", choices=["table", "csv", "json"], default="table")
