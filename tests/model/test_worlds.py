"""Simulated worlds are what they say, and the learner beats what anybody might run in them."""

from __future__ import annotations

import numpy as np
import pytest

from flows.model import DeliveryTimeModel
from flows.timing_bench import peers
from flows.timing_bench.bench import run_bench
from flows.timing_bench.play import draw_allowed, play
from flows.timing_bench.utc import InUtc
from flows.timing_bench.worlds import WORLDS, make_crowd


def test_the_same_seed_draws_the_same_people() -> None:
    one, other = (make_crowd(WORLDS["strong"], people=50, seed=4) for _ in range(2))

    assert np.array_equal(one.answer, other.answer)
    assert not np.array_equal(one.answer, make_crowd(WORLDS["strong"], people=50, seed=5).answer)


@pytest.mark.parametrize("name", WORLDS)
def test_answers_are_probabilities_and_activity_is_shared_out(name: str) -> None:
    crowd = make_crowd(WORLDS[name], people=80, seed=1)

    assert ((crowd.answer > 0) & (crowd.answer < 1)).all()
    assert np.allclose(1.0, crowd.activity.sum(axis=1))


def test_hours_do_not_matter_in_the_null_world() -> None:
    crowd = make_crowd(WORLDS["null"], people=20, seed=1)

    assert np.allclose(crowd.answer[:, :1], crowd.answer)


def test_deadlines_leave_a_slot_and_never_a_quiet_hour() -> None:
    allowed = draw_allowed(2_000, 6, np.random.default_rng(2))
    hour = np.nonzero(allowed)[1] % 24

    assert allowed.any(axis=1).all()
    assert (int(hour.min()), int(hour.max())) == (7, 21)


def test_the_learner_beats_one_hour_for_all_and_random() -> None:
    shares = {}
    for name in ("delivery-time", "fixed-best-hour", "random"):
        cells = run_bench(
            worlds=["strong"], policies=[name], seeds=[1], people=150, sends=20, sends_at=[20]
        )
        shares[name] = next(iter(cells)).interval(0)[0]

    assert shares["delivery-time"] < 0.8
    assert shares["delivery-time"] < shares["fixed-best-hour"] - 0.05
    assert pytest.approx(1.0, abs=0.05) == shares["random"]


def test_a_game_repeats_with_its_seed() -> None:
    runs = [
        play(DeliveryTimeModel(seed=1), WORLDS["drift"], people=40, sends=4, seed=3)
        for _ in range(2)
    ]

    assert np.array_equal(runs[0].regret, runs[1].regret)


def test_a_clock_change_hurts_only_those_who_live_in_utc() -> None:
    inner = peers.FixedBestHour(people=3, seed=1)
    utc = InUtc(inner)
    utc.learn(["usr_ada"], np.array([19]), np.array([True]))
    utc.jump()
    utc.learn(["usr_ada"], np.array([19]), np.array([True]))

    assert [1.0, 1.0] == inner.sent[0, 18:20].tolist()
