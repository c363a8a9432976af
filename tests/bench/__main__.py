"""`python -m tests.bench`: compare Airside with its peers; other measurements by name."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, Final

from tests.bench import held, live
from tests.bench.compare import LEVELS, SYSTEMS, WHOLE, Comparison
from tests.bench.environments import TOP
from tests.bench.growth import play as grow
from tests.bench.scale import play
from tests.bench.stage import Stage, open_stage, prepare_ingest, set_up
from tests.bench.talk import say

CACHE: Final = TOP / ".airside" / "bench"


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="airside bench", description=__doc__)
    parser.add_argument("--messages", type=int, default=500_000, help="in the topic")
    parser.add_argument("--bootstrap", default="", help="a broker (default: the embedded one)")
    parser.add_argument("--clickhouse", default="", help="its URL (default: the embedded one)")
    parser.add_argument("--manifest", type=Path, help="use the stage that `keep` holds")
    parser.add_argument("--cache", type=Path, default=CACHE, help="the peers' environments")
    parser.add_argument("--json", action="store_true", help="JSON on standard output")
    parser.add_argument("--jobs", default="ABC", help="some of A, B, C")
    parser.add_argument("--systems", default=",".join(SYSTEMS), help="with commas between")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--run-s-max", type=float, default=900, help="seconds for one run")
    parser.set_defaults(act=compare)
    some = parser.add_subparsers(dest="what", metavar="WHAT")
    keep = some.add_parser("keep", help="fill the topic and hold the stage until Ctrl-C")
    keep.set_defaults(act=hold)
    for name, act, about in (
        ("ingest", whole_flow, "the whole ingest flow with its sinks, x raw; bytes it stores"),
        ("scale", scale_out, "job A in one cell and in two"),
        ("growth", growth, "how the cost grows with users, partitions, sizes, faults, headers"),
        ("catchup", caught_up, "how fast the whole flow works off a backlog"),
    ):
        part = some.add_parser(name, help=about)
        part.add_argument("--level", default="pure", choices=LEVELS)
        part.set_defaults(act=act)
        if name == "scale":
            part.add_argument("--ahead", action="store_true", help="fetch everything before")
        if name == "ingest":
            part.add_argument("--held", type=int, default=200_000, help="of each, in memory")
    return parser


@contextmanager
def staged(options: argparse.Namespace) -> Iterator[Stage]:
    if options.manifest is not None:
        yield open_stage(options.manifest)
        return
    with (
        tempfile.TemporaryDirectory(suffix="-airside-bench") as folder,
        set_up(
            Path(folder),
            messages=options.messages,
            bootstrap_servers=options.bootstrap,
            clickhouse_url=options.clickhouse,
        ) as stage,
    ):
        yield stage


def compare(options: argparse.Namespace) -> dict[str, Any]:
    """The peers and us, the same jobs."""
    systems = [name for name in SYSTEMS if name in options.systems.split(",")]
    with staged(options) as stage:
        comparison = Comparison(stage, cache=options.cache, run_s_max=options.run_s_max)
        comparison.play(systems=systems, jobs=options.jobs, rounds=options.rounds)
        comparison.show()
        return comparison.as_json()


def whole_flow(options: argparse.Namespace) -> dict[str, Any]:
    """The ingest flow as the product makes it, against the raw loop."""
    ours = f"{WHOLE}-{options.level}"
    with staged(options) as stage:
        prepare_ingest(stage)
        comparison = Comparison(stage, cache=options.cache, run_s_max=options.run_s_max)
        comparison.play(systems=("raw", ours), jobs="A", rounds=options.rounds)
        comparison.show()
        told = held.show(stage, comparison.messages, options.held, options.level)
        say(str(told))
        ratio = comparison.ratio(ours, "raw", "A")
        return {**comparison.as_json(), "ingest_x_raw": ratio, "held": told}


def growth(options: argparse.Namespace) -> dict[str, Any]:
    """One thing of the traffic changes at a time."""
    with tempfile.TemporaryDirectory(suffix="-airside-bench") as folder:
        return grow(
            Path(folder),
            messages=options.messages,
            level=options.level,
            rounds=options.rounds,
            run_s_max=options.run_s_max,
            cache=options.cache,
        )


def caught_up(options: argparse.Namespace) -> dict[str, Any]:
    """A backlog, and nothing new meanwhile."""
    with staged(options) as stage:
        rates = _rates(options, stage, options.rounds)
        return {"messages_a_second": round(statistics.median(rates)), "runs": rates}


def _rates(options: argparse.Namespace, stage: Stage, rounds: int) -> list[float]:
    return live.catch_up(
        stage,
        level=options.level,
        rounds=rounds,
        run_s_max=options.run_s_max,
        cache=options.cache,
    )


def scale_out(options: argparse.Namespace) -> dict[str, Any]:
    """One cell against two."""
    with staged(options) as stage:
        return play(
            stage,
            level=options.level,
            rounds=options.rounds,
            run_s_max=options.run_s_max,
            ahead=options.ahead,
        )


def hold(options: argparse.Namespace) -> dict[str, Any]:
    """Keep the stage for runs from other processes, until standard input ends or Ctrl-C."""
    with staged(options) as stage:
        say(f"use it with --manifest {stage.manifest}; Ctrl-C ends it")
        try:
            sys.stdin.read()
        except KeyboardInterrupt:
            say("ended")
        return {"manifest": str(stage.manifest)}


def main(arguments: Sequence[str] | None = None) -> int:
    options = make_parser().parse_args(arguments)
    # Standard output is for the figures alone; what is logged on the way goes beside it.
    with redirect_stdout(sys.stderr):
        found = options.act(options)
    if options.json:
        sys.stdout.write(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
