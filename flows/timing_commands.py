"""`airside timing …`: what measures delivery-time policies, and shows what they have learned."""

from __future__ import annotations

import argparse
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path

import orjson
from rich.console import Console
from rich.table import Table

from flows.evaluate.command import add_evaluate
from schemas.errors import ConfigError

_console = Console(highlight=False, soft_wrap=True)


def add_timing_commands(
    some: argparse._SubParsersAction[argparse.ArgumentParser],
) -> None:
    """Add the command `timing` and what it can do."""
    timing = some.add_parser("timing", help="look after delivery times")
    parts = timing.add_subparsers(dest="part", required=True, metavar="WHAT")
    bench = parts.add_parser("bench", help="play policies in simulated worlds")
    bench.add_argument("--seeds", type=int, default=10, help="number of seeds (default 10)")
    bench.add_argument("--first-seed", type=int, default=0, help="the first of them")
    bench.add_argument("--users", type=int, default=2_000, help="people (default 2000)")
    bench.add_argument("--sends", type=int, default=50, help="notifications a person (default 50)")
    bench.add_argument("--worlds", default="all", help="names, with commas")
    bench.add_argument("--policies", default="all", help="names, with commas")
    bench.add_argument("--json", type=Path, help="write all figures to this file")
    bench.add_argument(
        "--level",
        choices=("auto", "pure", "native"),
        default="pure",
        help="with the native library's sweeps, or without",
    )
    bench.set_defaults(act=bench_policies)
    replay = parts.add_parser("replay-log", help="judge policies on a log of random prompts")
    replay.add_argument("file", type=Path, help="CSV, also .gz: see docs/delivery-time.md")
    replay.add_argument("--seeds", type=int, default=10, help="repeats of each policy's luck")
    replay.add_argument("--json", action="store_true", help="print JSON")
    replay.set_defaults(act=replay_prompts)
    add_evaluate(parts)
    clusters = parts.add_parser("clusters", help="by which rhythms of the day people differ")
    clusters.add_argument("--by-lane", action="store_true", help="as each lane found them")
    clusters.add_argument(
        "--role", default="", help="hide clusters of fewer people than it may see"
    )
    clusters.add_argument("--json", action="store_true", help="print JSON")
    clusters.set_defaults(act=show_rhythms)


def bench_policies(options: Namespace) -> int:
    """Play, and print a table of regret as a share of random's."""
    # The commands below import where they run: every other command starts quicker without.
    from flows.timing.learners import find_kernel  # noqa: PLC0415
    from flows.timing_bench.bench import POLICIES, absences, run_bench  # noqa: PLC0415
    from flows.timing_bench.table import as_json, as_table  # noqa: PLC0415
    from flows.timing_bench.worlds import WORLDS  # noqa: PLC0415

    worlds = _names(options.worlds, WORLDS)
    policies = _names(options.policies, POLICIES)
    sends_at = sorted({due for due in (5, 20, 50) if due < options.sends} | {options.sends})
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    absent = absences(policies)
    for name, reason in absent.items():
        _console.print(f"left out {name}: {reason}", markup=False)
    cells = list(
        run_bench(
            worlds=worlds,
            policies=policies,
            seeds=seeds,
            people=options.users,
            sends=options.sends,
            sends_at=sends_at,
            kernel=find_kernel(options.level),
        )
    )
    _console.print(as_table(cells, sends_at))
    if options.json:
        report = as_json(cells, sends_at, seeds=list(seeds), sends=options.sends, absent=absent)
        options.json.write_bytes(orjson.dumps(report, option=orjson.OPT_INDENT_2))
    return 0


def replay_prompts(options: Namespace) -> int:
    """Replay a log of prompts, and print what each policy would have reached."""
    from flows.timing_bench.replay_log import (  # noqa: PLC0415
        LOG_POLICIES,
        read_prompts,
        replay_log,
    )

    log = read_prompts(options.file)
    judged = [replay_log(log, name, seeds=range(options.seeds)) for name in LOG_POLICIES]
    if options.json:
        _console.print(orjson.dumps(judged).decode(), markup=False)
        return 0
    table = Table("policy", "matched", "answered", "95 %", "SNIPS", "95 %", "effective")
    for one in judged:
        low, high = one.rate_interval
        table.add_row(
            one.policy,
            str(one.matched),
            f"{one.rate:.4f}",
            f"{low:.4f} to {high:.4f}",
            f"{one.snips:.4f}",
            "{:.4f} to {:.4f}".format(*one.snips_interval),
            f"{one.effective:.0f}",
        )
    _console.print(table)
    return 0


def show_rhythms(options: Namespace) -> int:
    """Print the newest clusters of people's rhythms."""
    from flows.timing.show_clusters import show_clusters  # noqa: PLC0415 - starts quicker without

    return show_clusters(options)


def _names(text: str, known: Mapping[str, object]) -> list[str]:
    if text == "all":
        return list(known)
    names = [name for name in text.split(",") if name]
    for name in names:
        if name not in known:
            raise ConfigError(
                do="find",
                kind="world or policy",
                name=name,
                expected=f"some of {', '.join(known)}",
            )
    return names
