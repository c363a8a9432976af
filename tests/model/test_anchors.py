"""What shapes are bent from: heights and later weekends, found in sums over people."""

from __future__ import annotations

import numpy as np

from flows.model.anchors import anchors, first_anchors, gains
from flows.model.population import COMMON_SHARES
from flows.model.posterior import score_common
from flows.model.shapes import EVERYONE, FLAT, HEIGHTS, HOURS, LEVELS, OFFSETS, Floats, dictionary

LEVEL = float(LEVELS[4])
BUMP = 2 + 10  # a bump in the afternoon, of the weaker strength


def chance(curve: Floats) -> Floats:
    return np.asarray(1.0 / (1.0 + np.exp(-LEVEL - curve)))


def found(truth: Floats, sends: float) -> Floats:
    """Anchors after so many sends in each bin to people who answer like `truth`."""
    now = first_anchors()
    answered, expected = sends * chance(truth), sends * chance(now)
    return anchors(now, answered, expected, expected * (1.0 - chance(now)))


def middle(day: Floats) -> float:
    """Hour around which an afternoon's bump lies."""
    above = day - day.min()
    return float(above @ np.arange(HOURS) / above.sum())


def test_weekends_that_come_later_are_found() -> None:
    two_later = int(np.flatnonzero(OFFSETS == 2.0)[0])
    before = found(dictionary().moved[:, two_later], 0.0)[BUMP]
    after = found(dictionary().moved[:, two_later], 400.0)[BUMP]

    assert abs(middle(before[:HOURS]) - middle(before[HOURS:])) < 0.2
    assert abs(middle(after[:HOURS]) + 2.0 - middle(after[HOURS:])) < 0.2


def test_bumps_that_are_too_low_are_raised_together() -> None:
    shapes = dictionary()
    before = found(1.5 * shapes.curve, 0.0)
    after = found(1.5 * shapes.curve, 400.0)

    rise = np.ptp(after[2:, :HOURS], axis=1) / np.ptp(shapes.curve[2:, :HOURS], axis=1)
    assert (np.ptp(after[2:], axis=1) > np.ptp(before[2:], axis=1)).all()
    assert np.allclose(1.5, rise, atol=0.05)


def test_gains_are_the_log_likelihood_that_each_height_and_offset_adds() -> None:
    """At one level, so that chances are known; the common curve's weekends turn with its days."""
    now = first_anchors()
    now[EVERYONE] = np.sin(np.arange(len(now[0])))
    moved = dictionary().moved.copy()
    moved[EVERYONE] = np.roll(moved[FLAT + 1], 1, axis=1)
    moved[EVERYONE, :, :HOURS] = moved[EVERYONE, :1, :HOURS]
    sent = np.random.default_rng(1).poisson(3.0, now.shape).astype(np.float64)
    sent[:, :7] = 0.0  # hours at which nobody is sent anything
    answered, before = 0.4 * sent, chance(now)

    found = gains(now, moved, answered, sent * before, sent * before * (1.0 - before))

    for place, height in enumerate(HEIGHTS):
        after = chance(height * moved)
        gain = answered[:, None] * np.log(after / before[:, None])
        gain += (sent - answered)[:, None] * np.log((1.0 - after) / (1.0 - before)[:, None])
        assert np.allclose(gain.sum(axis=2), found[:, :, place], rtol=0, atol=1e-5)


def test_the_flat_shape_stays_flat() -> None:
    assert not found(dictionary().curve, 400.0)[FLAT].any()


def test_weekends_of_the_population_are_first_taken_for_its_workdays() -> None:
    now = first_anchors()
    now[EVERYONE, :HOURS] = np.sin(np.arange(HOURS))
    nothing = np.zeros(now.shape)

    towards = anchors(now, nothing, nothing, nothing)

    assert not towards[EVERYONE, :HOURS].any()
    assert np.corrcoef(now[EVERYONE, :HOURS], towards[EVERYONE, HOURS:])[0, 1] > 0.9


def test_people_who_answer_like_everybody_speak_for_a_larger_share() -> None:
    before = np.full(50, 0.2)

    like = score_common(np.full(50, 0.5), before, now=0.2)
    unlike = score_common(np.full(50, 0.05), before, now=0.2)
    same = score_common(np.full(50, 0.2), before, now=0.2)

    assert COMMON_SHARES[-1] == COMMON_SHARES[like.argmax()]
    assert COMMON_SHARES[0] == COMMON_SHARES[unlike.argmax()]
    assert np.allclose(same, 0.0, atol=1e-9)
