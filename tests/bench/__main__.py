"""`python -m tests.bench`: compare Airside with its peers; other measurements by name."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from tests.bench.compare import LEVELS, SYSTEMS, WHOLE, Comparison
from tests.bench.environments import TOP
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
    whole = some.add_parser("ingest", help="the whole ingest flow with its sinks, x raw")
    whole.set_defaults(act=whole_flow)
    scale = some.add_parser("scale", help="job A in one cell and in two")
    scale.add_argument("--level", default="pure", choices=LEVELS)
    scale.set_defaults(act=scale_out)
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
    with staged(options) as stage:
        prepare_ingest(stage)
        comparison = Comparison(stage, cache=options.cache, run_s_max=options.run_s_max)
        comparison.play(systems=("raw", WHOLE), jobs="A", rounds=options.rounds)
        comparison.show()
        return {**comparison.as_json(), "ingest_x_raw": comparison.ratio(WHOLE, "raw", "A")}


def scale_out(options: argparse.Namespace) -> dict[str, Any]:
    """One cell against two."""
    with staged(options) as stage:
        return play(stage, level=options.level, rounds=options.rounds, run_s_max=options.run_s_max)


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
    found = options.act(options)
    if options.json:
        sys.stdout.write(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
