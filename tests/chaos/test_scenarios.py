"""Faults that end a run by design, so that no random sequence can have them."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from random import Random

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from tests.chaos.__main__ import cells_of, main, parse
from tests.chaos.faults import FAULTS, pick
from tests.chaos.load import Load
from tests.chaos.oracle import INPUT_TOPICS
from tests.chaos.rig import Rig, has_reason, reason_of
from tests.chaos.runner import Plan, Verdict, run
from tests.chaos.watch import store_bytes_max
from tests.chaos.witness import ends_of
from tests.services import Breakable

pytestmark = pytest.mark.long

SEED = 21
PERMANENT = 70


def test_a_retention_that_overtakes_the_stored_offset_is_refused_in_words(
    breakable_kafka: Breakable, tmp_path: Path
) -> None:
    """Messages are gone that nobody read: going on would hide it."""
    with Rig(tmp_path, breakable_kafka) as rig:
        rig.target.start()
        rig.begin(Load(rig.servers, seed=SEED, seconds=5.0, rate=300))
        rig.settle(2.0)

        assert 0 == rig.target.stop()
        rig.load.bursts.backlog(Random(SEED), 600)
        rig.load.end()
        admin = AdminClient({"bootstrap.servers": rig.servers})
        ends = {
            place: end
            for place, end in ends_of(rig.servers, INPUT_TOPICS).items()
            if end and place[0] != "ntf.profiles.v1"
        }
        gone = [TopicPartition(*place, end) for place, end in ends.items()]
        for answer in admin.delete_records(gone).values():
            answer.result(30.0)
        rig.target.start(wait=False)

        assert PERMANENT == rig.target.wait_ended(ours=False, seconds=60.0)
        words = reason_of(rig.target.exits[-1].words)
        assert "that offset is gone" in words
        assert "raise retention.ms" in words


def test_a_run_leaves_no_process_and_no_lock_behind(
    breakable_kafka: Breakable, tmp_path: Path
) -> None:
    with Rig(tmp_path, breakable_kafka, cells=2) as rig:
        rig.target.start()
        time.sleep(1.0)
        assert {0, 1} == set(rig.target.workers())
        programs = rig.target.programs()
        assert 2 == len(programs)
        rig.target.tell_one(rig.target.workers()[0], signal.SIGSTOP)

    assert [] == rig.target.orphans()
    assert [] == rig.target.held_locks()


def test_a_run_that_cannot_start_ends_with_a_verdict(
    breakable_kafka: Breakable, tmp_path: Path
) -> None:
    """A setting that prevents every start: said once, in words, and within bounds."""
    plan = Plan(SEED, 5.0, tuple(pick("kill")), more={"AIRSIDE_LANES": "5"})
    verdict = run(plan, tmp_path, breakable_kafka)

    assert {"stuck": 1} == verdict.violations
    assert "a multiple of 5 lanes" in verdict.sentences[0]
    assert "VIOLATED: stuck" in verdict.line()


class CannotAskError(Exception):
    """An error of a kind that nobody expects."""


def test_a_run_that_breaks_off_ends_with_a_line_and_a_violation(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_off(*_: object) -> Verdict:
        raise CannotAskError

    monkeypatch.setattr("tests.chaos.__main__.on_kafka", break_off)

    assert 1 == main(["-7"])
    told = capsys.readouterr()
    assert "chaos seed=-7 " in told.out.splitlines()[-1]
    assert told.out.splitlines()[-1].endswith("VIOLATED: crashed")
    assert "CannotAskError" in told.err


def test_a_campaign_that_kills_too_few_has_not_shown_what_it_was_to_show(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = iter((2, 0))
    monkeypatch.setattr(
        "tests.chaos.__main__.on_kafka",
        lambda plan, _keep: Verdict(plan.seed, plan.cells, killed=next(killed)),
    )

    assert 1 == main(["campaign", "--generations", "3"])
    assert "only 2 of 3 killed" in capsys.readouterr().out.splitlines()[-1]


@pytest.mark.parametrize("seed", [0, -7, 10**40, -(10**40)])
def test_any_whole_number_is_a_seed(seed: int) -> None:
    options = parse([str(seed)])
    load = Load("127.0.0.1:1", seed=int(options.what), seconds=1.0, rate=10)

    assert seed == int(options.what)
    assert cells_of(options, seed) in range(4)
    assert load.world.profile_count > 0


@pytest.mark.parametrize("text", ["seven", "1.5", ""])
def test_what_is_no_seed_is_said_in_a_line(capsys: pytest.CaptureFixture[str], text: str) -> None:
    with pytest.raises(SystemExit, match="2"):
        parse([text])

    assert "expected a whole number" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ('{"event": "step_failed", "level": "error"}', True),
        ("airside: could not read topic", True),
        ("RuntimeError: no such thing", True),
        ('{"event": "flow_started", "level": "info"}', False),
        ("", False),
    ],
)
def test_an_end_has_a_reason_only_when_it_says_one(words: str, *, expected: bool) -> None:
    assert expected == has_reason(words)


def test_a_store_may_grow_with_its_state_and_not_without() -> None:
    empty = store_bytes_max(facts=0, cells=0)

    assert empty < store_bytes_max(facts=100_000, cells=0) < 10 * empty
    assert empty < store_bytes_max(facts=0, cells=10_000) < 10 * empty


def test_names_of_faults_are_picked_and_others_refused() -> None:
    assert [*FAULTS.values()] == pick("")
    assert [FAULTS["kill"], FAULTS["zombie"]] == pick("kill, zombie")
    with pytest.raises(Exception, match="no_such_fault"):
        pick("kill,no_such_fault")
