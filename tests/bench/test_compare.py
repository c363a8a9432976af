from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from flows.ingest import make_checker
from tests.bench import compare
from tests.bench.compare import Comparison, Run, WrongError, check
from tests.bench.corpus import FAULTS, FIELDS_OF_JOB, Corpus
from tests.bench.effort import START_MS, raw_block
from tests.bench.environments import AbsentError
from tests.bench.stage import Stage, destinations
from tests.bench.systems.airside import Job
from tests.bench.work import Event, Judge
from tests.messages import policy, settings

MESSAGES = 1_000


def expected(messages: int = MESSAGES) -> dict[str, object]:
    corpus = Corpus(messages, start_ms=START_MS)
    for _ in corpus.samples():
        pass
    return corpus.expected()


def stage() -> Stage:
    return Stage(Path("manifest.json"), expected(), "-", "-", "none")


def run(system: str, job: str = "A", cpu_s: float = 1.0) -> Run:
    told = expected()
    counts = {"seen": MESSAGES} if system == "raw" else {name: told[name] for name in told}
    return Run(system, job, cpu_s, 2.0, 3.0, counts, {"python": "3.11"})


def test_the_peers_check_finds_what_the_generator_put_in() -> None:
    judge = Judge(destinations()).judge
    routed: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    for sample in Corpus(MESSAGES, start_ms=START_MS).samples():
        found = judge(sample.key, sample.value, sample.headers, sample.timestamp_ms)
        if isinstance(found, Event):
            routed[found.destination] += 1
        else:
            refused[found] += 1

    assert expected()["routed"] == dict(sorted(routed.items()))
    assert expected()["refused"] == dict(sorted(refused.items()))


@pytest.mark.parametrize("job", ["A", "B", "C"])
def test_our_jobs_find_what_the_generator_put_in(job: str) -> None:
    checker = make_checker(settings(), policy())
    ours = Job(job)
    ours.take(checker.check(raw_block(MESSAGES)))
    told = expected()

    assert {name: told[name] for name in FIELDS_OF_JOB[job]} == ours.counts()


def test_each_kind_of_fault_is_in_the_corpus_as_often_as_the_others() -> None:
    assert {"T101": 2, "T302": 6, "T303": 2} == expected()["refused"]
    assert 10 == 2 * len(FAULTS)


def test_the_same_seed_gives_the_same_corpus() -> None:
    first, second = (list(Corpus(300, start_ms=START_MS).samples()) for _ in range(2))

    assert first == second


def test_a_system_that_counts_wrong_ends_the_run() -> None:
    wrong = run("bytewax")
    wrong.counts["routed"] = {}

    with pytest.raises(WrongError, match="counted routed"):
        check(wrong, stage())


def test_a_system_that_drops_must_still_drop_the_right_number() -> None:
    dropping = run("flink")
    dropping.counts["refused"] = {"unexplained": 10}
    check(dropping, stage())
    dropping.counts["refused"] = {"unexplained": 9}

    with pytest.raises(WrongError, match="counted refused"):
        check(dropping, stage())


def test_a_ratio_is_the_median_of_the_rounds_own_ratios(monkeypatch: pytest.MonkeyPatch) -> None:
    spent = {"raw": iter((1.0, 4.0, 3.0)), "airside-pure": iter((2.0, 1.0, 1.0))}

    def run_once(_stage: Stage, system: str, job: str, **_more: object) -> Run:
        if system == "quix":
            raise AbsentError("not here")
        return run(system, job, next(spent[system]))

    monkeypatch.setattr(compare, "run_once", run_once)
    comparison = Comparison(stage(), cache=Path("-"))
    comparison.play(systems=("raw", "quix", "airside-pure"), jobs="A", rounds=3)
    told = comparison.as_json()

    assert {"pure": {"A": {"raw": 3.0}}} == told["ratios"]
    assert {"quix": "not here"} == told["skipped"]
    assert 6 == len(told["runs"])
