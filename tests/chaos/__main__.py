"""`python -m tests.chaos SEED`: torment a running system for a while and say what came of it.

`python -m tests.chaos campaign --generations 100` goes on over seeds until so many processes
were killed. Exit code 0 when every invariant held, 1 when one did not, 75 or 78 when there is no
Kafka to run on.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Final

from flows.log import set_up_log
from schemas.errors import AirsideError, ConfigError
from tests.chaos.faults import FAULTS, Fault, pick
from tests.chaos.runner import NOT_CHECKED, Plan, Verdict, run, write_report
from tests.services import (
    FORCE_KAFKA,
    REAL_KAFKA,
    Unavailable,
    choose,
    kafka_absence,
    real_kafka_node,
)

KILLS_IN_A_RUN: Final = 25
CAMPAIGN_MINUTES: Final = 6.0
DEADLY: Final = tuple(name for name in FAULTS if name.startswith(("kill", "crash_", "rescale")))


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos")
    parser.add_argument("what", metavar="SEED", help="a whole number, `campaign` or `soak`")
    parser.add_argument("--minutes", type=float, help="time under faults (default 10)")
    parser.add_argument("--faults", default="", help="some of them, joined by commas")
    parser.add_argument("--flow", choices=sorted(NOT_CHECKED), default="ingest")
    parser.add_argument("--level", choices=("auto", "pure", "native"), default="auto")
    parser.add_argument("--each-once", action="store_true", help="each fault once, without a time")
    parser.add_argument("--rate", type=int, default=400, help="messages a second")
    parser.add_argument("--cells", type=int, help="0: the plain process (default: by the seed)")
    parser.add_argument("--cluster", action="store_true", help="Bytewax's own cluster of two")
    parser.add_argument("--report", type=Path, help="write counts and times to this JSON file")
    parser.add_argument("--generations", type=int, default=100, help="killed ones of a campaign")
    parser.add_argument("--seed", type=int, default=1, help="the first seed of campaign and soak")
    parser.add_argument("--keep", type=Path, help="work in this folder and keep it")
    options = parser.parse_args(argv)
    if options.cluster and (options.flow != "ingest" or options.cells):
        parser.error("--cluster: expected the flow `ingest`, and no --cells")
    if options.what not in ("campaign", "soak"):
        try:
            int(options.what)
        except ValueError:
            parser.error("SEED: expected a whole number, `campaign` or `soak`")
    return options


def cells_of(options: argparse.Namespace, seed: int) -> int:
    """As told, or else by the seed: plain, or one to three cells."""
    return Random(seed).randrange(4) if options.cells is None else options.cells


def on_kafka(plan: Plan, keep: Path | None) -> Verdict:
    """One run on a Kafka of its own, which ends with it.

    Errors: ConfigError without a Kafka.
    """
    kind = choose(
        REAL_KAFKA,
        absence=lambda kind: kafka_absence(kind, os.environ),
        forced=os.environ.get(FORCE_KAFKA, ""),
    )
    if isinstance(kind, Unavailable):
        raise ConfigError(do="find", kind="Apache Kafka", found=kind.reason)
    with tempfile.TemporaryDirectory(prefix="airside-chaos-") as made:
        folder = keep / str(plan.seed) if keep else Path(made)
        folder.mkdir(parents=True, exist_ok=not keep)  # an older run's state is no beginning
        with real_kafka_node(kind, folder / "kafka") as node:
            return run(plan, folder, node)


def one_run(plan: Plan, keep: Path | None) -> Verdict:
    """One run; one that breaks off, whatever the reason, has a verdict, too.

    Errors: those of ours, which say in a line why there was no run.
    """
    try:
        return on_kafka(plan, keep)
    except AirsideError:
        raise
    except Exception as err:  # noqa: BLE001 - the outermost frame, and its line is the last
        traceback.print_exc()
        what = f"crashed: suite: {type(err).__name__}"
        violations = {"crashed": 1}
        return Verdict(plan.seed, plan.cells, plan.flow, violations=violations, sentences=[what])


def tell(words: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{words}\n")
    sys.stdout.flush()


def tell_verdict(verdict: Verdict) -> None:
    """What went wrong in words, then the one line."""
    for sentence in verdict.sentences:
        tell(f"  {sentence}")
    tell(verdict.line())


def campaign(options: argparse.Namespace, faults: tuple[Fault, ...]) -> list[Verdict]:
    """Runs over seeds until enough processes were killed, or one run violated something."""
    verdicts: list[Verdict] = []
    killed, seed = 0, options.seed
    while killed < options.generations:
        plan = Plan(
            seed=seed,
            seconds=60 * (options.minutes or CAMPAIGN_MINUTES),
            faults=faults,
            rate=options.rate,
            flow=options.flow,
            cells=1 if options.cells is None else options.cells,
            more={"AIRSIDE_KAFKA__LEVEL": options.level},
            cluster=options.cluster,
            kills_max=min(KILLS_IN_A_RUN, options.generations - killed),
        )
        verdicts.append(one_run(plan, options.keep))
        tell_verdict(verdicts[-1])
        killed += verdicts[-1].killed
        seed += 1
        if not verdicts[-1].ok or not verdicts[-1].killed:
            break
    tell(json.dumps(figures(verdicts)))
    if killed < options.generations and verdicts[-1].ok:
        tell(f"campaign: only {killed} of {options.generations} killed; give runs more --minutes")
    return verdicts


def soak(options: argparse.Namespace, faults: tuple[Fault, ...]) -> list[Verdict]:
    """Runs of ten minutes over seeds, until the minutes are over or one violated something."""
    left = options.minutes or 60.0
    verdicts: list[Verdict] = []
    while left > 0 and all(verdict.ok for verdict in verdicts):
        plan = Plan(
            seed=options.seed + len(verdicts),
            seconds=60 * min(left, 10.0),
            faults=faults,
            rate=options.rate,
            flow=options.flow,
            cells=cells_of(options, options.seed + len(verdicts)),
            more={"AIRSIDE_KAFKA__LEVEL": options.level},
            cluster=options.cluster,
        )
        verdicts.append(one_run(plan, options.keep))
        tell_verdict(verdicts[-1])
        left -= verdicts[-1].seconds / 60
    tell(json.dumps(figures(verdicts)))
    return verdicts


def figures(verdicts: Sequence[Verdict]) -> dict[str, object]:
    """The sums over some runs."""
    recovery = sorted(seconds for verdict in verdicts for seconds in verdict.recovery_s)
    violations: Counter[str] = Counter()
    hits: Counter[str] = Counter()
    for verdict in verdicts:
        violations.update(verdict.violations)
        hits.update(verdict.hits)
    return {
        "runs": len(verdicts),
        "killed": sum(verdict.killed for verdict in verdicts),
        "generations": sum(verdict.generations for verdict in verdicts),
        "sent": sum(verdict.sent for verdict in verdicts),
        "violations": dict(violations),
        "hits": dict(sorted(hits.items())),
        "restart_to_durable_s_median": statistics.median(recovery) if recovery else None,
        "restart_to_durable_s_max": max(recovery, default=None),
        "commit_age_s_max": max((v.commit_age_s_max for v in verdicts), default=None),
        "rss_mb_max": max((v.rss_mb_max for v in verdicts), default=None),
    }


def main(argv: Sequence[str]) -> int:
    """Run what is asked for."""
    options = parse(argv)
    set_up_log("json")
    deadly = ",".join(DEADLY) if options.what == "campaign" and not options.faults else ""
    if options.cluster:
        options.cells = 0
    faults = tuple(pick(options.faults or deadly, cluster=options.cluster))
    tell(f"not checked: {'; '.join(NOT_CHECKED[options.flow])}")
    if options.what == "campaign":
        verdicts = campaign(options, faults)
    elif options.what == "soak":
        verdicts = soak(options, faults)
    else:
        seconds = 60 * (options.minutes or 10.0)
        seed = int(options.what)
        plan = Plan(
            seed,
            seconds,
            faults,
            rate=options.rate,
            flow=options.flow,
            cells=cells_of(options, seed),
            more={"AIRSIDE_KAFKA__LEVEL": options.level},
            cluster=options.cluster,
            each_once=options.each_once,
        )
        verdicts = [one_run(plan, options.keep)]
        tell_verdict(verdicts[0])
    if options.report is not None:
        write_report(options.report, verdicts)
    wanted = options.generations if options.what == "campaign" else 0
    killed = sum(verdict.killed for verdict in verdicts)
    return 0 if all(verdict.ok for verdict in verdicts) and killed >= wanted else 1


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except AirsideError as error:
        sys.stderr.write(f"chaos: {error}\n")
        sys.exit(error.exit_code)
