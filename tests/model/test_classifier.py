"""River's own checks, and what River's interface adds to the model."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Hashable, Iterator
from typing import Any

import numpy as np
import pytest
from river import checks, metrics

from flows.model.classifier import DeliveryTimeClassifier


def outcomes(_model: object, scale: int = 1) -> Iterator[list[tuple[dict[str, object], bool]]]:
    """In place of River's data sets, which scikit-learn carries and which know no people."""
    rng = np.random.default_rng(11)
    yield [
        ({"user": f"usr_{rng.integers(9)}", "slot": int(rng.integers(168)), "odd": 0.5}, bool(y))
        for y in rng.integers(0, 2, 60 * scale)
    ]


def rivers_checks() -> list[Callable[[object], None]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checks, "_yield_datasets", outcomes)
        return list(checks.yield_checks(DeliveryTimeClassifier()))


@pytest.mark.parametrize("check", rivers_checks(), ids=lambda check: check.__name__)
def test_rivers_checks_pass(
    check: Callable[[object], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "_yield_datasets", outcomes)
    check(DeliveryTimeClassifier())


def test_new_and_missing_features_survive() -> None:
    model = DeliveryTimeClassifier()
    model.learn_one({}, y=True)
    model.learn_one({"user": "usr_ada", "slot": 19, "colour": "red"}, y=False)

    assert pytest.approx(1.0) == sum(model.predict_proba_one({"user": "usr_ada"}).values())
    assert pytest.approx(1.0) == sum(model.predict_proba_one({"slot": 3}).values())


def test_the_input_is_not_changed() -> None:
    x: dict[Hashable, Any] = {"user": "usr_ada", "slot": 19}
    before = copy.deepcopy(x)
    model = DeliveryTimeClassifier()
    model.learn_one(x, y=True)
    model.predict_proba_one(x)

    assert before == x


def test_a_pickled_classifier_goes_on() -> None:
    model = DeliveryTimeClassifier()
    for number in range(200):
        model.learn_one({"user": f"usr_{number % 7}", "slot": number % 168}, y=number % 3 == 0)
    again = pickle.loads(pickle.dumps(model))

    assert model.model.state_hash() == again.model.state_hash()


def test_it_tells_answers_from_silence_better_than_luck() -> None:
    rng = np.random.default_rng(3)
    model, auc = DeliveryTimeClassifier(), metrics.ROCAUC()
    for number in range(1_500):
        person, hour = number % 30, int(rng.integers(7, 22))
        x: dict[Hashable, Any] = {"user": f"usr_{person}", "slot": hour}
        y = bool(rng.random() < (0.6 if abs(hour - 9 - person % 2 * 10) <= 2 else 0.1))
        if number >= 500:
            auc.update(y, model.predict_proba_one(x))
        model.learn_one(x, y)

    assert auc.get() > 0.65
