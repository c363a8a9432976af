"""One seeded run: load, a random sequence of faults, everything mended, every invariant checked."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Final

import msgspec
from clickhouse_connect.driver.client import Client

from flows.settings import JourneySettings
from flows.simulate import Truth
from flows.verify import Report, verify
from schemas.errors import AirsideError
from tests.chaos.faults import Fault
from tests.chaos.load import Load
from tests.chaos.oracle import OUTPUT_TOPICS, Findings, check_leaking_rows, judge
from tests.chaos.oracle_followed import FOLLOWED_TOPICS, judge_followed
from tests.chaos.rig import Rig
from tests.chaos.target import LEAVE_S_MAX
from tests.chaos.watch import COMMIT_AGE_S_MAX, RSS_MB_MAX, store_bytes_max
from tests.chaos.witness import collect, open_transactions
from tests.chaos.witness_followed import collect_followed
from tests.services import Breakable

NOT_CHECKED: Final = {
    "ingest": ("4 (journey order: no journey in this flow)", "8 (model state: no model in it)"),
    "all": ("8 (model state: each lane's sums come once and in order; what they are is not)",),
}
"""Invariants that a run of a flow says nothing about."""

EXPLAINED: Final = (0, 137, 143)
"""Ends of cells that need no word: as told, killed by us, told to stop before they listened."""

KINDS: Final = (
    "lost",
    "doubled",
    "unknown",
    "changed",
    "misordered",
    "wrong_cells",
    "wrong_facts",
    "wrong_fates",
    "wrong_refused",
    "redecided",
    "wrong_decisions",
    "wrong_journeys",
    "wrong_models",
    "leaked",
    "truth",
    "undecided",
    "unsent",
    "unplanted",
    "open_transactions",
    "orphans",
    "locks",
    "silent_stall",
    "unexplained_exit",
    "breach",
    "memory",
    "store",
    "stuck",
    "crashed",
)
"""Every kind of violation."""


class Plan(msgspec.Struct, frozen=True):
    """What one run is to be.

    Units: `rate` in messages a second; `rest_s` without a move after which nothing more is
    expected. Shapes: `prepare` changes the tables before the first start; `sabotage` names what
    to break inside the target. `kills_max` ends the faults early; 0 does not.
    `each_once` has every fault once, in an order that the seed decides, however long that takes.
    `cluster` torments Bytewax's own cluster of processes in place of a plain one.
    """

    seed: int
    seconds: float
    faults: tuple[Fault, ...]
    rate: int = 400
    cells: int = 0
    flow: str = "ingest"
    sabotage: str = ""
    more: Mapping[str, str] = {}
    kills_max: int = 0
    each_once: bool = False
    cluster: bool = False
    prepare: Callable[[Client], None] = lambda _client: None
    commit_age_s_max: float = COMMIT_AGE_S_MAX
    rest_s: float = 60.0


class Verdict(msgspec.Struct):
    """What came of one run.

    Shapes: `generations` counts our starts; `killed` each SIGKILL of a worker, of all of them at
    once, of a supervisor or of a rescaling; `violations` by kind; `sentences` the first in words.
    """

    seed: int
    cells: int
    flow: str = "ingest"
    seconds: float = 0.0
    sent: int = 0
    generations: int = 0
    killed: int = 0
    planted: int = 0
    commit_age_s_max: float = 0.0
    rss_mb_max: int = 0
    store_bytes: int = 0
    exits: dict[str, int] = {}
    faults: dict[str, int] = {}
    hits: dict[str, int] = {}
    recovery_s: list[float] = []
    doors: dict[str, int] = {}
    followed: dict[str, int] = {}
    violations: dict[str, int] = {}
    sentences: list[str] = []
    notes: list[str] = []

    @property
    def ok(self) -> bool:
        """Whether every invariant held."""
        return not self.violations

    def line(self) -> str:
        """The verdict in one line."""
        told = " ".join(
            f"{kind}={self.violations.get(kind, 0)}"
            for kind in ("lost", "doubled", "misordered", "wrong_cells", "wrong_facts", "leaked")
        )
        names = ",".join(sorted(self.violations))
        return (
            f"chaos seed={self.seed} flow={self.flow} cells={self.cells}"
            f" seconds={self.seconds:.0f}"
            f" generations={self.generations} killed={self.killed}"
            f" faults={sum(self.faults.values())} sent={self.sent} {told} "
            + (f"VIOLATED: {names}" if names else "OK")
        )


def run(plan: Plan, folder: Path, kafka: Breakable) -> Verdict:
    """Do one run; returns in bounded time, with nothing left running."""
    verdict = Verdict(plan.seed, plan.cells, plan.flow)
    began_s = time.monotonic()
    with Rig(
        folder,
        kafka,
        cells=plan.cells,
        flow=plan.flow,
        more=plan.more,
        sabotage=plan.sabotage,
        cluster=plan.cluster,
    ) as rig:
        found = Findings()
        try:
            _torment(rig, plan, verdict)
            _finish(rig, plan, found, verdict)
        except AirsideError as err:
            found.add("stuck", "run", str(err))
        _fill(rig, plan, found, verdict)
    verdict.seconds = time.monotonic() - began_s
    return verdict


def _torment(rig: Rig, plan: Plan, verdict: Verdict) -> None:
    rng = Random(plan.seed)
    plan.prepare(rig.client())
    rig.target.start()
    rig.begin(Load(rig.servers, seed=plan.seed, seconds=1.5 * plan.seconds + 60, rate=plan.rate))
    # Planted before anything breaks, so that every run looks for leaks.
    rig.load.bursts.poison(rng, 60)
    rig.load.bursts.repeats(rng, 60)
    rig.load.bursts.public(rng, 60)
    counted: Counter[str] = Counter()
    deadline_s = time.monotonic() + plan.seconds
    for number, fault in enumerate(_sequence(rig, plan, rng, counted)):
        is_over = time.monotonic() > deadline_s and not plan.each_once
        if is_over or 0 < plan.kills_max <= rig.target.killed:
            break
        counted[fault.name] += 1
        verdict.faults = dict(counted)
        rig.keep()
        # Chance of its own: how far one fault draws does not decide which comes next.
        chance = Random(f"{plan.seed}/{number}")
        fault.act(rig, chance)
        rig.settle(chance.uniform(0.2, 1.5))


def _sequence(rig: Rig, plan: Plan, rng: Random, counted: Counter[str]) -> Iterator[Fault]:
    """Fault after fault, drawn by weight from what is possible now; or each once."""
    if plan.each_once:
        yield from rng.sample(plan.faults, len(plan.faults))
        return
    while True:
        possible = [
            fault
            for fault in plan.faults
            if fault.suits(rig) and not (fault.once and counted[fault.name])
        ]
        if not possible:
            return
        yield rng.choices(possible, [fault.weight for fault in possible])[0]


def _finish(rig: Rig, plan: Plan, found: Findings, verdict: Verdict) -> None:
    """Mend everything, drain, and look at all that came out."""
    rig.mend()
    truth = rig.load.end()
    verdict.sent = truth.total
    decided = rig.wait_decided(truth.total, rest_s=plan.rest_s)
    if decided != truth.total:
        found.add("undecided", "fates", f"{decided} of {truth.total} have a door")
    rig.keep()
    code = rig.target.stop()
    if code:
        found.add("breach", "drain", f"the last SIGTERM gave exit {code}")
    _check_rest(rig, found)
    report = _check_outputs(rig, truth, found, verdict)
    verdict.doors = dict(report.doors)


def _check_rest(rig: Rig, found: Findings) -> None:
    """Nothing is left of it: no transaction, no process, no lock."""
    topics = (*OUTPUT_TOPICS, *(FOLLOWED_TOPICS if rig.target.flow == "all" else ()))
    for topic, part in open_transactions(rig.servers, topics):
        found.add("open_transactions", f"{topic}/{part}", "readers wait before the end")
    deadline_s = time.monotonic() + LEAVE_S_MAX
    while rig.target.orphans() and time.monotonic() < deadline_s:
        time.sleep(0.1)
    for _ in rig.target.orphans():
        found.add("orphans", "process", "one is left after the stop")
    for name in rig.target.held_locks():
        found.add("locks", name, "still held after the stop")


def _check_outputs(rig: Rig, truth: Truth, found: Findings, verdict: Verdict) -> Report:
    client = rig.client()
    evidence, verdict.planted = collect(rig.servers, client, [rig.target.log])
    judged = judge(evidence)
    if rig.target.flow == "all":
        followed, leaking = collect_followed(rig.servers, client, evidence.told)
        judge_followed(followed, judged)
        check_leaking_rows(leaking, judged)
        verdict.followed = dict(Counter(word.topic for word in followed.words))
        verdict.followed["journeys"] = len(followed.journeys)
    found.counts.update(judged.counts)
    found.sentences += judged.sentences
    if len(evidence.inputs) != truth.total:
        what = f"{len(evidence.inputs)} records in the inputs; sent {truth.total}"
        found.add("unsent", "inputs", what)
    if not verdict.planted:
        found.add("unplanted", "inputs", "no planted value went in, so no leak could be seen")
    journeys = JourneySettings() if rig.target.flow == "all" else None  # type: ignore[call-arg] # all have defaults
    report = verify(truth, client, bootstrap_servers=rig.servers, journeys=journeys)
    if report.mismatches:
        found.add("truth", "simulator", "; ".join(report.sentences[:6]), report.mismatches)
    if report.republished:
        found.add("truth", "simulator", "records once more", report.republished)
    limit = store_bytes_max(facts=report.facts, cells=len(evidence.cells), journeys=report.journeys)
    if rig.watch.store_bytes > limit:
        found.add("store", "recovery", f"{rig.watch.store_bytes} bytes; at most {limit}")
    return report


def _fill(rig: Rig, plan: Plan, found: Findings, verdict: Verdict) -> None:
    """Take over what was counted on the way, and judge it."""
    watch, target = rig.watch, rig.target
    for sentence in rig.unexplained:
        found.add("unexplained_exit", "process", sentence)
    for end in target.cell_exits():
        if end["code"] not in EXPLAINED and not end["error"]:
            found.add("unexplained_exit", f"cell {end['cell']}", f"exit {end['code']}, no reason")
    for sentence in rig.breaches:
        found.add("breach", "fault", sentence)
    if watch.commit_age_s_max > plan.commit_age_s_max:
        what = f"nothing durable for {watch.commit_age_s_max:.0f} s while it ran"
        found.add("silent_stall", "process", what)
    if watch.rss_mb_max > RSS_MB_MAX:
        found.add("memory", "process", f"{watch.rss_mb_max} MiB; at most {RSS_MB_MAX}")
    unknown = found.counts.keys() - set(KINDS)
    assert not unknown, unknown
    if not verdict.sent:
        with suppress(AirsideError):
            verdict.sent = rig.load.sent
    verdict.generations, verdict.killed = target.generations, target.killed
    verdict.commit_age_s_max = round(watch.commit_age_s_max, 2)
    verdict.rss_mb_max, verdict.store_bytes = watch.rss_mb_max, watch.store_bytes
    verdict.recovery_s = [round(seconds, 2) for seconds in watch.recovery_s]
    verdict.exits = dict(Counter(str(last.code) for last in target.exits))
    verdict.hits = dict(rig.hits)
    verdict.violations, verdict.sentences = dict(found.counts), found.sentences
    verdict.notes = rig.notes


def write_report(path: Path, verdicts: Sequence[Verdict]) -> None:
    """Write verdicts as JSON, with what was not checked and why."""
    flows = {verdict.flow for verdict in verdicts}
    whole = {
        "not_checked": {flow: NOT_CHECKED[flow] for flow in sorted(flows)},
        "runs": list(verdicts),
    }
    path.write_bytes(msgspec.json.format(msgspec.json.encode(whole), indent=2))
