"""The options of the command `airside timing evaluate`."""

from __future__ import annotations

import argparse
import re
from argparse import Namespace
from pathlib import Path

from schemas.policy import SPAN, seconds_of


def add_evaluate(parts: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the group `timing`."""
    parser = parts.add_parser("evaluate", help="what other policies would have reached, by the log")
    parser.add_argument(
        "--policy",
        action="append",
        default=[],
        metavar="NAME",
        help="uniform, model (without its exploration), best-hour, fixed:HOUR; may be repeated",
    )
    parser.add_argument("--policies", type=Path, metavar="FILE", help="YAML file of policies")
    parser.add_argument(
        "--since", type=_span, default="30d", metavar="SPAN", help="how far back (default 30d)"
    )
    parser.add_argument("--campaign", default="", help="this campaign only")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(act=evaluate_policies)


def _span(text: str) -> int:
    if not re.fullmatch(SPAN, text):
        message = "expected a number with s, m, h or d"
        raise argparse.ArgumentTypeError(message)
    return seconds_of(text)


def evaluate_policies(options: Namespace) -> int:
    """Judge the policies on the decision log; 1 when a figure comes with a warning."""
    from flows.evaluate.show import show_evaluation  # noqa: PLC0415 - starts quicker without

    return show_evaluation(options)
