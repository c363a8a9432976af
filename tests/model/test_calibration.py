"""Calibration and its alarms."""

from __future__ import annotations

import numpy as np

from flows.model import DeliveryTimeModel
from flows.model.calibration import Calibration


def test_no_alarm_while_predictions_come_true() -> None:
    rng = np.random.default_rng(1)
    chance = rng.uniform(0.05, 0.3, 10_000)
    calibration = Calibration()

    assert not calibration.judge(chance, rng.random(10_000) < chance)
    assert calibration.error() < 0.02
    assert 0.5 < calibration.roc_auc.get() < 0.8


def test_an_alarm_when_answers_break_away_both_ways() -> None:
    rng = np.random.default_rng(1)
    for change in (0.2, -0.15):
        chance = np.full(5_000, 0.2)
        calibration = Calibration()
        calibration.judge(chance, rng.random(5_000) < chance)

        assert calibration.judge(chance, rng.random(5_000) < chance + change)


def test_fading_brings_a_person_back_towards_the_population() -> None:
    model = DeliveryTimeModel()
    model.learn(["usr_ada"] * 64, np.full(64, 19), np.ones(64, dtype=bool))
    model.update_population()
    before = model.posterior("usr_ada").sent
    model.fade(0.25)

    assert (64.0, 16.0) == (before, model.posterior("usr_ada").sent)
