"""The parts of the honest test, one by one."""

from __future__ import annotations

import json
import math
from itertools import product

import numpy as np
import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped] # no stubs here

from flows.model.evidence.assignment import is_split_wrong, split_log_e
from flows.model.evidence.clusters import cluster_log_e
from flows.model.evidence.compare import Plan, State, bounds_of, judge, subject_sums
from flows.model.evidence.experiment import Experiment, Result
from flows.model.evidence.explore import exploration
from flows.model.evidence.gather import Evidence, LaneEvidence
from flows.model.evidence.slots import (
    any_slot_log_e,
    bin_odds,
    day_parts,
    discoveries,
    judge_slots,
    slot_log_e,
    slot_sums,
)
from schemas.contracts_build import build_contracts
from schemas.experiment import NAME
from schemas.topics_catalog import load_topics
from tests.measure.evidence_worlds import draw_picks

PLAN = Plan()


def people(optimised: tuple[int, int], holdout: tuple[int, int]) -> Evidence:
    """Evidence of (sends, responses) by arm, every send to another person."""
    evidence = Evidence.empty(2)
    evidence.arms = np.array(
        [(n, n, hits, hits, n, hits, hits) for n, hits in (optimised, holdout)], np.float64
    )
    evidence.assigned = evidence.arms[:, 0].copy()
    return evidence


def verdict(evidence: Evidence, state: State = State.COLLECTING) -> State:
    return judge(evidence.arms, PLAN, state).state


def test_few_sends_give_no_verdict_and_an_endless_interval() -> None:
    found = judge(people((40, 20), (40, 1)).arms, PLAN)

    assert (State.COLLECTING, -math.inf, math.inf) == (found.state, found.low, found.high)
    assert -1 == found.sends_needed


def test_a_large_lift_is_found_with_its_interval() -> None:
    found = judge(people((9_000, 1_350), (1_000, 100)).arms, PLAN)

    assert State.EFFECT_FOUND == found.state
    assert pytest.approx(0.05) == found.lift
    assert 0 < found.low < found.lift < found.high
    assert found.log_e > math.log(20)
    assert 0 == found.sends_needed


def test_no_lift_in_much_data_is_accepted_as_none() -> None:
    found = judge(people((60_000, 6_000), (60_000, 6_010)).arms, PLAN)

    assert State.NULL_ACCEPTED == found.state
    assert -PLAN.interest < found.low < 0 < found.high < PLAN.interest
    assert found.log_e < 0


def test_a_proven_lift_too_small_to_matter_counts_as_none() -> None:
    found = judge(people((2_000_000, 205_000), (2_000_000, 200_000)).arms, PLAN)

    assert 0 < found.low < found.high < PLAN.interest
    assert State.NULL_ACCEPTED == found.state


def test_a_verdict_stays_until_the_other_one_is_proven() -> None:
    unclear = people((1_000, 110), (1_000, 100))

    assert [State.EFFECT_FOUND, State.NULL_ACCEPTED] == [
        verdict(unclear, state) for state in (State.EFFECT_FOUND, State.NULL_ACCEPTED)
    ]


def test_verdicts_turn_when_the_world_does() -> None:
    none = people((60_000, 6_000), (60_000, 6_000))
    large = people((60_000, 9_000), (60_000, 6_000))

    assert State.NULL_ACCEPTED == verdict(none, State.EFFECT_FOUND)
    assert State.EFFECT_FOUND == verdict(large, State.NULL_ACCEPTED)


def test_so_many_further_sends_bring_the_verdict_and_no_fewer_do() -> None:
    evidence = people((900, 120), (900, 95))
    needed = judge(evidence.arms, PLAN).sends_needed
    assert needed > 0

    def after(further: float) -> State:
        grown = Evidence.empty(2)
        grown.arms = evidence.arms * (1 + further / 1_800)
        return verdict(grown)

    assert State.COLLECTING == after(needed * 0.97)
    assert State.COLLECTING != after(needed * 1.03)


def test_the_detectable_lift_is_wider_than_the_interval_by_the_power() -> None:
    found = judge(people((5_000, 500), (5_000, 500)).arms, PLAN)

    half = found.high - found.lift
    error = float(bounds_of(people((5_000, 500), (5_000, 500)).arms, PLAN).error)
    assert pytest.approx(half + 0.8416 * error, rel=1e-4) == found.detectable


def test_sends_of_one_person_do_not_pass_for_independent_ones() -> None:
    """Ten sends to a person who answers all or none tell what one send tells."""
    count = 4_000
    arms = np.arange(count) % 2
    answers = (np.random.default_rng(3).random(count) < 0.3).astype(float)
    once = bounds_of(subject_sums(arms, np.ones(count), answers, answers), PLAN)
    tenfold = bounds_of(subject_sums(arms, np.full(count, 10.0), 10 * answers, 10 * answers), PLAN)

    assert pytest.approx(float(once.error), rel=0.02) == float(tenfold.error)


def observe(lane: LaneEvidence, events: list[tuple[str, int, int, int]]) -> None:
    subjects, arms, sends, answers = zip(*events, strict=True)
    lane.observe(subjects, arms=arms, sends=sends, answers=answers)


def some_events(seed: int) -> list[tuple[str, int, int, int]]:
    rng = np.random.default_rng(seed)
    numbers = rng.integers(0, 40, 400).tolist()
    return [(f"usr_{number}", number % 2, 1, int(rng.random() < 0.2)) for number in numbers]


def test_order_blocks_and_lanes_change_no_bit_of_the_evidence() -> None:
    events = some_events(1)
    whole, parts = LaneEvidence(bins=2), LaneEvidence(bins=2)
    lanes = [LaneEvidence(bins=2) for _ in range(3)]
    observe(whole, events)
    for start in range(0, 400, 7):
        observe(parts, events[::-1][start : start + 7])
    for number, lane in enumerate(lanes):
        observe(lane, [event for event in events if int(event[0][4:]) % 3 == number])
    merged = lanes[2].evidence.merge(lanes[0].evidence).merge(lanes[1].evidence)

    assert whole.evidence.dump() == parts.evidence.dump() == merged.dump()
    assert 40 == whole.evidence.assigned.sum() == whole.evidence.arms[:, 0].sum()


def test_a_late_response_corrects_the_negative_exactly() -> None:
    late, at_once = LaneEvidence(bins=2), LaneEvidence(bins=2)
    observe(late, [("usr_a", 0, 1, 0), ("usr_a", 0, 1, 1), ("usr_b", 1, 1, 0)])
    observe(late, [("usr_a", 0, 0, 1)])
    observe(at_once, [("usr_a", 0, 1, 1), ("usr_a", 0, 1, 1), ("usr_b", 1, 1, 0)])

    assert at_once.evidence.dump() == late.evidence.dump()


def test_a_saved_lane_goes_on_where_it_was() -> None:
    events = some_events(2)
    whole, first = LaneEvidence(bins=2), LaneEvidence(bins=2)
    observe(whole, events)
    observe(first, events[:200])
    second = LaneEvidence.load(first.dump())
    observe(second, events[200:])

    assert whole.dump() == second.dump()


def test_a_saved_lane_of_another_version_is_refused() -> None:
    saved = Evidence.empty(2).dump()
    other = saved[:1] + bytes([99]) + saved[2:]

    with pytest.raises(ValueError, match="expected evidence of version 1"):
        Evidence.load(other)


def test_subjects_beyond_the_bound_are_left_out_and_counted() -> None:
    lane = LaneEvidence(bins=2, subjects_max=2)
    observe(lane, [("usr_a", 0, 1, 1), ("usr_b", 1, 1, 0), ("usr_c", 1, 1, 1)])
    observe(lane, [("usr_a", 0, 1, 0), ("usr_c", 1, 1, 1)])

    assert 2 == lane.evidence.left_out
    assert [1, 1] == lane.evidence.arms[:, 0].tolist()
    assert [2, 1] == lane.evidence.arms[:, 1].tolist()


def test_a_forgotten_subject_is_nowhere_in_the_saved_state() -> None:
    lane = LaneEvidence(bins=2)
    observe(lane, some_events(4))
    before = lane.evidence.dump()
    assert b"usr_7" in lane.dump()
    lane.forget("usr_7")
    lane.forget("usr_nobody")

    assert b"usr_7" not in lane.dump()
    assert before == lane.evidence.dump()
    assert LaneEvidence.load(lane.dump()).dump() == lane.dump()


def test_a_split_counts_when_it_is_made_and_not_when_outcomes_come() -> None:
    lane = LaneEvidence(bins=2)
    lane.assign([f"usr_{n}" for n in range(100)], arms=[int(n < 10) for n in range(100)])
    observe(lane, [(f"usr_{n}", 1, 1, 0) for n in range(10)])

    assert [90, 10] == lane.evidence.assigned.tolist()
    assert not is_split_wrong(split_log_e([90, 10], [0.9, 0.1]))


def run(evidence: Evidence) -> tuple[Experiment, Result]:
    plan = Plan(holdout_share=0.5)
    return Experiment("spring", plan, started_ms=1_000).evaluate(evidence, at_ms=5_000)


def test_while_the_split_is_wrong_nothing_is_concluded() -> None:
    evidence = people((60_000, 9_000), (60_000, 6_000))
    right, _ = run(evidence)
    evidence.assigned[:] = (60_000, 30_000)
    wrong, result = run(evidence)

    assert (State.EFFECT_FOUND, State.COLLECTING) == (right.state, wrong.state)
    assert (True, "collecting") == (result.split_wrong, result.as_fields()["state"])


def test_a_verdict_keeps_the_time_at_which_it_was_reached() -> None:
    experiment, _ = run(people((60_000, 9_000), (60_000, 6_000)))
    later, _ = experiment.evaluate(people((70_000, 9_900), (70_000, 7_000)), at_ms=9_000)

    assert 5_000 == experiment.decided_ms == later.decided_ms
    assert [5_000] == later.to_rows().columns["ver"]


@pytest.mark.parametrize("sends", [10, 60_000])
def test_the_message_body_fits_its_contract_and_its_topic(sends: int) -> None:
    evidence = people((sends, sends // 7), (sends, sends // 10))
    evidence.slots = slot_sums(*draw_picks(np.random.default_rng(1), 50, bins=16, best_lift=0))
    _, result = run(evidence)
    body = json.loads(result.to_body())

    assert [] == list(Draft202012Validator(build_contracts()[NAME]).iter_errors(body))
    assert "1970-01-01T00:00:05.000Z" == body["at"]
    assert 16 == len(body["slots"])
    assert "experiment" == load_topics()["airside.experiments.v1"].key


def test_exploration_is_paid_until_there_is_nothing_to_be_found() -> None:
    shares = {
        (state, differ, exist): exploration(
            0.1, floor=0.01, state=state, slots_differ=differ, clusters_exist=exist
        ).share
        for state, differ, exist in product(State, (True, False), (True, False))
    }

    assert [(State.NULL_ACCEPTED, False, False)] == [at for at, x in shares.items() if x == 0.01]
    assert {0.1, 0.01} == set(shares.values())


def test_a_floor_above_what_is_asked_raises_nothing() -> None:
    found = exploration(
        0.005, floor=0.01, state=State.NULL_ACCEPTED, slots_differ=False, clusters_exist=False
    )

    assert 0.005 == found.share


def test_slot_gains_average_nothing_over_all_draws_of_equal_slots() -> None:
    """By enumeration: the odds and the guess may be anything."""
    odds = np.array([0.7, 0.2, 0.1])
    for responded, expected in product((0.0, 1.0), (0.05, 0.9)):
        sums = [slot_sums([pick], odds[None], [responded], expected) for pick in range(3)]
        gains = sum(float(odds[pick]) * one[0] for pick, one in enumerate(sums))

        np.testing.assert_allclose(gains, 0.0, atol=1e-15)
        # And an e-value after one pick is fair or less.
        fair = sum(float(odds[pick]) * np.exp(slot_log_e(one)) for pick, one in enumerate(sums))
        assert (np.asarray(fair) <= 1 + 1e-12).all()


def test_slot_sums_of_blocks_add_up() -> None:
    picks = draw_picks(np.random.default_rng(2), 200, bins=4, best_lift=0.1)
    whole = slot_sums(*picks)
    parts = sum(slot_sums(*(part[at : at + 50] for part in picks)) for at in range(0, 200, 50))

    np.testing.assert_allclose(whole, parts, rtol=1e-12)


def test_a_much_better_slot_is_found_with_its_lift_and_alone() -> None:
    picks = draw_picks(np.random.default_rng(5), 40_000, bins=8, best_lift=0.1)
    findings = judge_slots(slot_sums(*picks), alpha=0.05)

    assert findings[0].found
    assert pytest.approx(0.1, abs=4 * findings[0].error) == findings[0].lift
    assert any_slot_log_e(slot_sums(*picks)) > math.log(20)


def test_weak_findings_of_many_slots_are_held_back() -> None:
    assert [False] * 16 == discoveries([math.log(30)] + [0.0] * 15, 0.05).tolist()
    assert [True] * 16 == discoveries([math.log(30)] * 16, 0.05).tolist()


def test_odds_of_bins_are_those_of_their_slots() -> None:
    odds = np.full((1, 168), 1 / 168)
    found = bin_odds(odds, day_parts())

    np.testing.assert_allclose(found[0, :8], 15 / 168)
    np.testing.assert_allclose(found[0, 8:], 6 / 168)


def test_people_without_responses_are_no_evidence_of_clusters() -> None:
    assert 0.0 == cluster_log_e(np.ones((5, 24)), np.zeros((5, 24)))
    assert 0.0 == cluster_log_e(np.zeros((0, 24)), np.zeros((0, 24)))
