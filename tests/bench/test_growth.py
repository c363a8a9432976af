from __future__ import annotations

import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest

from flows.ingest import make_checker
from tests.bench import growth, held, stages
from tests.bench.corpus import KINDS, Corpus, Sample, Shape
from tests.bench.effort import START_MS, block_of
from tests.bench.environments import TOP
from tests.bench.growth import STEPS, USUAL, shapes
from tests.bench.stage import destinations
from tests.bench.work import Event, Judge
from tests.messages import policy, settings

MESSAGES = 400


def samples(shape: Shape) -> tuple[Corpus, list[Sample]]:
    corpus = Corpus(MESSAGES, start_ms=START_MS, shape=shape)
    return corpus, list(corpus.samples())


def test_each_traffic_differs_from_the_usual_one_in_one_thing() -> None:
    every = list(shapes())

    assert ("usual", 0, USUAL) == every[0]
    for name, value, shape in every[1:]:
        assert {name} == {
            field for field in Shape._fields if getattr(shape, field) != getattr(USUAL, field)
        }
        assert value == getattr(shape, name)
    assert len(every) == 1 + sum(map(len, STEPS.values()))


@pytest.mark.parametrize(("name", "value", "shape"), list(shapes()))
def test_the_books_of_every_traffic_are_right(name: str, value: int, shape: Shape) -> None:
    corpus, found = samples(shape)
    judge = Judge(destinations()).judge
    verdicts = [judge(one.key, one.value, one.headers, one.timestamp_ms) for one in found]
    refused = sum(not isinstance(verdict, Event) for verdict in verdicts)

    assert sum(corpus.expected()["refused"].values()) == refused
    assert MESSAGES == refused + sum(corpus.expected()["routed"].values())
    assert MESSAGES == sum(corpus.ends.values())
    assert shape.partitions == len(corpus.ends)
    assert (MESSAGES // shape.malformed_each if shape.malformed_each else 0) == refused
    whole = [
        one for one, verdict in zip(found, verdicts, strict=True) if isinstance(verdict, Event)
    ]
    assert all(len(one.value) >= shape.body_bytes for one in whole)
    assert all(zlib.crc32(one.key) % shape.partitions == one.partition for one in found)
    assert {shape.more_headers} == {
        sum(key.startswith("x-more-") for key, _ in one.headers) for one in found
    }
    if name == "users":
        assert len({one.key for one in found}) <= value


def test_what_is_held_is_as_many_as_was_asked_for() -> None:
    assert 7_001 == len(held.profiles(7_001))
    assert 7_001 == len(held.events(7_001))
    assert 7_001 == len(held.cells(7_001))
    assert 7_001 == len(held.counters("pure")(7_001).ids)
    assert 7_001 == held.counters("pure")(7_001).counters().sum()
    assert len(KINDS) == held.counters("pure")(1).counters().shape[1]


def test_bytes_are_those_that_stay_while_the_thing_is_held() -> None:
    """In a process of its own: one that ran other tests has room left, and need not grow."""
    told = (
        "from tests.bench import held;"
        "print(held.grown_by(lambda count: [bytes(4_096) for _ in range(count)], 20_000))"
    )
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, check=True, cwd=TOP)

    assert 3_000 < float(done.stdout) < 6_000


def test_growth_is_told_beside_the_usual_traffic(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Played:
        """Costs as many seconds as the traffic has headers, and the raw loop two."""

        messages = 1_000_000

        def __init__(self, shape: Shape, **_more: Any) -> None:
            self.ours = 4.0 + shape.more_headers

        def play(self, **_more: Any) -> None:
            pass

        def ratio(self, _ours: str, _theirs: str, _job: str) -> float:
            return 2.0 / self.ours

        def figures(self) -> dict[tuple[str, str], list[Any]]:
            costs = {"raw": 2.0, "airside-pure": self.ours}
            return {("C", name): [_Run(cost)] for name, cost in costs.items()}

    class _Run:
        def __init__(self, cpu_s: float) -> None:
            self.cpu_s = cpu_s

    class _Stage:
        def __init__(self, _folder: Path, *, messages: int, shape: Shape) -> None:
            assert messages
            self.shape = shape

        def __enter__(self) -> Shape:
            return self.shape

        def __exit__(self, *_error: object) -> None:
            pass

    monkeypatch.setattr(growth, "set_up", _Stage)
    monkeypatch.setattr(growth, "Comparison", Played)
    told = growth.play(
        tmp_path, messages=10, level="pure", rounds=1, run_s_max=1.0, cache=Path("-")
    )["growth"]

    assert 1.0 == told[0]["x_usual"]
    assert {0: 1.0, 4: 2.0, 12: 4.0} == {
        row["to"]: row["x_usual"] for row in told if row["changed"] in ("usual", "more_headers")
    }
    assert 0.125 == told[-1]["x_raw"]


@pytest.mark.parametrize("shape", [USUAL, USUAL._replace(more_headers=12, body_bytes=2_400)])
def test_the_checker_takes_every_traffic(shape: Shape) -> None:
    corpus, found = samples(shape)
    checked = make_checker(settings(), policy()).check(block_of(found))

    assert sum(corpus.expected()["refused"].values()) == len(checked.refusals)


def test_every_stage_is_timed_and_every_row_is_written() -> None:
    before = [vars(owner)[name] for _, owner, name in stages.STAGES]
    spent, rows = stages.play(1_000)

    assert before == [vars(owner)[name] for _, owner, name in stages.STAGES]
    assert {name for name, *_ in stages.STAGES} == set(spent)
    assert 1_000 == rows["facts"] + rows["quarantine"]
    quick = {name for name, cost in spent.items() if cost <= 0}
    assert {"snapshot: remembered events", "snapshot: the rest"} == quick


def test_a_stage_is_told_without_what_it_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter((0.0, 1.0, 4.0, 10.0))
    monkeypatch.setattr(stages, "thread_time", lambda: next(clock))
    watch = stages.Stopwatch()
    inner = watch.timed("inner", lambda: None)
    watch.timed("outer", inner)()

    assert {"inner": 3.0, "outer": 7.0} == dict(watch.spent)
