"""A small part of `python -m tests.measure.evidence`, seeded: what docs/evidence.md promises."""

from __future__ import annotations

import numpy as np

from flows.model.evidence.off_policy import Decisions, evaluate, hour_target, uniform_target
from flows.model.evidence.slots import SLOTS
from tests.measure.evidence import (
    cluster_alarms,
    coverage,
    false_alarms,
    people_alarms,
    slot_alarms,
    split_alarms,
    stopping,
    wrong_acceptances,
)
from tests.measure.evidence_worlds import draw_log


def test_in_null_worlds_looking_all_the_time_raises_few_false_alarms() -> None:
    assert false_alarms(11, 100, holdout=0.5, base=0.1, sends=8_000) <= 0.05
    assert false_alarms(11, 100, holdout=0.1, base=0.1, sends=8_000) <= 0.05


def test_many_sends_to_the_same_people_fool_a_naive_test_and_not_ours() -> None:
    ours, naive = people_alarms(12, 25, holdout=0.1, rounds=25)

    assert ours <= 0.05
    assert naive >= 0.2


def test_two_points_are_found_within_one_and_a_half_fixed_sizes() -> None:
    times = stopping(13, 40, holdout=0.5)

    assert float(np.median(times)) <= 1.5
    assert float(np.mean(times)) <= 1.5


def test_the_null_is_not_accepted_where_there_is_an_effect() -> None:
    accepted, missed = wrong_acceptances(14, 12, lift=0.01, sends=100_000)

    assert accepted <= 0.05
    assert missed <= 0.1


def test_slots_that_differ_are_told_from_slots_that_do_not() -> None:
    assert (0.0, 0.0, 0.0) == slot_alarms(15, 10, lift=0.0, blocks=50)
    assert (1.0, 1.0, 1.0) == slot_alarms(15, 5, lift=0.12, blocks=150)


def test_a_split_off_by_two_points_is_noticed_and_a_right_one_is_not() -> None:
    assert 0.0 == split_alarms(16, 10, share=0.1, subjects=5_000)
    assert 1.0 == split_alarms(16, 5, share=0.13, subjects=10_000)


def test_clusters_are_found_where_they_are_even_if_sends_follow_responses() -> None:
    for adaptive in (False, True):
        found = cluster_alarms(17, 5, strength=0.0, adaptive=adaptive, people=800, sends=20)
        assert 0.0 == found
    assert 1.0 == cluster_alarms(17, 5, strength=1.0, adaptive=False, people=1_500, sends=30)


def test_off_policy_intervals_hold_the_truth() -> None:
    found = coverage(18, 25, people=300, each=5)

    assert min(figures["doubly_robust"] for figures in found.values()) >= 0.85
    assert min(figures["snips"] for figures in found.values()) >= 0.85


def test_the_weights_tell_when_a_policy_goes_where_the_log_never_was() -> None:
    log = draw_log(np.random.default_rng(19), people=2_000, each=5).decisions
    log.allowed[:, 3] = True
    (warning,) = [
        text for text in evaluate("fixed:3", log, hour_target(3)).warnings if "average" in text
    ]

    assert warning.startswith("weights average 0.00")


def test_intervals_are_wider_where_few_people_carry_the_weight_and_normal_where_all_do() -> None:
    """Else a policy that the log seldom tried looks better known than it is."""
    rng = np.random.default_rng(5)
    people = 400
    ratio = {}
    for heavy in (20, people):
        weights = np.full(people, 0.05)
        weights[:heavy] = (people - 0.05 * (people - heavy)) / heavy
        log = Decisions(
            subjects=np.arange(people),
            slots=np.zeros(people, np.intp),
            odds=1 / SLOTS / weights,
            allowed=np.ones((people, SLOTS), np.bool_),
            rewards=(rng.random(people) < 0.3).astype(np.float64),
            best=np.full(people, -1),
        )
        told = evaluate("uniform", log, uniform_target).snips
        normal = 1.96 * np.sqrt(((weights * (log.rewards - told.value)) ** 2).sum()) / people
        ratio[heavy] = (told.high - told.value) / normal

    assert 1.05 < ratio[20] < 1.5
    assert 0.99 < ratio[people] < 1.02
