"""Run the systems in turns, check what they counted, and put their use of the CPU in relation."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from rich.table import Table

from tests.bench import tables
from tests.bench.corpus import FIELDS_OF_JOB
from tests.bench.environments import TOP, AbsentError, child_environment, interpreter_of
from tests.bench.meter import MARK
from tests.bench.stage import Stage
from tests.bench.talk import say, show

LEVELS: Final = ("pure", "native")
OURS: Final = tuple(f"airside-{level}" for level in LEVELS)
HERE: Final = ("raw", "bytewax", *OURS)
PEERS: Final = ("quix", "faust", "pathway", "flink")
WHOLE: Final = "ingest"
WHOLES: Final = tuple(f"{WHOLE}-{level}" for level in LEVELS)
SYSTEMS: Final = (*HERE, *PEERS)
NO_LISTS: Final = frozenset(("raw",))
RUN_S_MAX: Final = 900
WORDS_MAX: Final = 300


class WrongError(Exception):
    """A system whose counts are not the expected ones."""


class Run(NamedTuple):
    """One run's figures."""

    system: str
    job: str
    cpu_s: float
    wall_s: float
    peak_mb: float
    counts: dict[str, Any]
    versions: dict[str, str]


def run_once(
    stage: Stage, system: str, job: str, *, cache: Path, run_s_max: float = RUN_S_MAX
) -> Run:
    """One system does one job, in a process of its own; its counts are checked.

    Errors: AbsentError when it cannot run, WrongError when it counted something else.
    """
    name, _, level = system.partition("-")
    python = interpreter_of(name, cache) if name in PEERS else Path(sys.executable)
    command = [str(python), "-m", f"tests.bench.systems.{name}", str(stage.manifest), job, level]
    if job == "C":
        for statement in tables.EMPTY:
            tables.ask(stage.clickhouse_url, statement)
    try:
        ended = subprocess.run(
            command,
            cwd=TOP,
            env=child_environment(),
            capture_output=True,
            text=True,
            timeout=run_s_max,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise AbsentError(f"did not end job {job} within {run_s_max:g} s") from None
    lines = [line for line in ended.stdout.splitlines() if line.startswith(MARK)]
    if not lines:
        words = (ended.stderr.strip().splitlines() or ["no words"])[-1][:WORDS_MAX]
        raise AbsentError(f"ended with status {ended.returncode}: {words}")
    told = json.loads(lines[-1].removeprefix(MARK))
    run = Run(system, job, counts=told["counts"], versions=told["versions"], **told["measured"])
    check(run, stage)
    return run


def check(run: Run, stage: Stage) -> None:
    """Compare what a run counted, and what it wrote, with the generator's books.

    Errors: WrongError that names the first difference.
    """
    if run.system == "raw":
        wanted: dict[str, Any] = {"seen": sum(_doors(stage.expected).values())}
    else:
        wanted = {name: stage.expected[name] for name in FIELDS_OF_JOB[run.job]}
    found = dict(run.counts)
    if "refused" in found and "unexplained" in found["refused"]:
        # A system that drops what it cannot read tells how many, not why.
        wanted["refused"] = {"unexplained": sum(wanted["refused"].values())}
    for name, value in wanted.items():
        if found.get(name) != value:
            raise WrongError(f"counted {name} {found.get(name)}; expected {value}")
    if run.job == "C" and run.system not in NO_LISTS:
        for name, value in tables.read_back(stage.clickhouse_url).items():
            if stage.expected[name] != value:
                raise WrongError(f"wrote {name} {value}; expected {stage.expected[name]}")


def _doors(expected: dict[str, Any]) -> dict[str, int]:
    return {**expected["routed"], **expected["refused"]}


class Comparison:
    """Rounds of runs; a system that fails is left out from then on, with the reason."""

    def __init__(self, stage: Stage, *, cache: Path, run_s_max: float = RUN_S_MAX) -> None:
        self._stage = stage
        self._cache = cache
        self._run_s_max = run_s_max
        self.messages = sum(_doors(stage.expected).values())
        self.runs: list[list[Run]] = []
        self._failed: dict[tuple[str, str], str] = {}

    @property
    def skipped(self) -> dict[str, str]:
        """Why systems are absent, or absent from some jobs."""
        found: dict[str, list[str]] = {}
        for (system, _), reason in self._failed.items():
            reasons = found.setdefault(system, [])
            if reason not in reasons:
                reasons.append(reason)
        return {system: "; ".join(reasons) for system, reasons in found.items()}

    def play(self, *, systems: Sequence[str], jobs: Iterable[str], rounds: int) -> None:
        """Every system once for each job in each round, the raw loop before each job."""
        for number in range(1, rounds + 1):
            played: list[Run] = []
            self.runs.append(played)
            for job in jobs:
                for system in systems:
                    if (system, job) not in self._failed:
                        self._play_one(system, job, number, played)

    def _play_one(self, system: str, job: str, number: int, played: list[Run]) -> None:
        try:
            run = run_once(self._stage, system, job, cache=self._cache, run_s_max=self._run_s_max)
        except AbsentError as err:
            self._failed[system, job] = str(err)
            say(f"round {number} {job} {system}: left out: {err}")
            return
        played.append(run)
        each_us = run.cpu_s / self.messages * 1e6
        say(
            f"round {number} {job} {system}: {each_us:.2f} us CPU each, "
            f"{self.messages / run.wall_s:,.0f}/s, {run.peak_mb:.0f} MB"
        )

    def figures(self) -> dict[tuple[str, str], list[Run]]:
        found: dict[tuple[str, str], list[Run]] = {}
        for run in (run for played in self.runs for run in played):
            found.setdefault((run.job, run.system), []).append(run)
        return found

    def ratio(self, ours: str, theirs: str, job: str) -> float | None:
        """Our events per CPU-second over theirs: the median of the rounds' own ratios."""
        ratios = []
        for played in self.runs:
            spent = {run.system: run.cpu_s for run in played if run.job == job}
            if ours in spent and theirs in spent:
                ratios.append(spent[theirs] / spent[ours])
        return round(statistics.median(ratios), 4) if ratios else None

    def ratios(self) -> dict[str, dict[str, dict[str, float]]]:
        """Level → job → system → ratio; what did not run is absent."""
        found: dict[str, dict[str, dict[str, float]]] = {}
        pairs = self.figures()
        for level, ours in zip(LEVELS, OURS, strict=True):
            for job in sorted({job for job, system in pairs if system == ours}):
                row = {}
                for theirs in sorted({system for _, system in pairs} - set(OURS)):
                    ratio = self.ratio(ours, theirs, job)
                    if ratio is not None:
                        row[theirs] = ratio
                found.setdefault(level, {})[job] = row
        return found

    def as_json(self) -> dict[str, Any]:
        """Everything, for a machine."""
        versions = {run.system: run.versions for runs in self.figures().values() for run in runs}
        return {
            "ratios": self.ratios(),
            "skipped": self.skipped,
            "messages": self.messages,
            "rounds": len(self.runs),
            "broker": self._stage.broker,
            "expected": self._stage.expected,
            "versions": versions,
            "runs": [
                {"round": number, **run._asdict()}
                for number, played in enumerate(self.runs, start=1)
                for run in played
            ],
        }

    def show(self) -> None:
        """The table of medians, for a person."""
        table = Table(title=f"{self.messages:,} messages, medians of {len(self.runs)} rounds")
        played = {system for _, system in self.figures()}
        ours = [name for name in OURS if name in played]
        heads = ("job", "system", "CPU us each", "CPU spread", "wall /s", "peak MB", "x raw")
        for head in (*heads, *(f"{name} is x" for name in ours)):
            table.add_column(head, justify="left" if head in heads[:2] else "right")
        for (job, system), runs in sorted(self.figures().items(), key=_place):
            spent = [run.cpu_s / self.messages * 1e6 for run in runs]
            rate = self.messages / statistics.median(run.wall_s for run in runs)
            cells = [job, system, f"{statistics.median(spent):.2f}"]
            cells += [f"{min(spent):.2f}-{max(spent):.2f}", f"{rate:,.0f}"]
            cells.append(f"{statistics.median(run.peak_mb for run in runs):.0f}")
            cells += [_times(self.ratio(system, "raw", job))]
            cells += [_times(self.ratio(name, system, job)) for name in ours]
            table.add_row(*cells)
        show(table)
        for system, reason in self.skipped.items():
            say(f"left out: {system}: {reason}")


def _place(item: tuple[tuple[str, str], Any]) -> tuple[str, int]:
    (job, system), _ = item
    return job, (*SYSTEMS, *WHOLES).index(system)


def _times(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.2f}"
