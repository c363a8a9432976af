"""The delivery-time model behind River's classifier interface."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
from river import base

from flows.model.delivery_time import DeliveryTimeModel
from flows.model.shapes import SLOTS


class DeliveryTimeClassifier(base.Classifier):
    """Predict whether a person answers in a slot; features are a person and a slot.

    An absent person is a stranger of whom nothing is kept apart; an absent slot is the first one;
    other features are ignored, so new and missing features survive.

    State: a `DeliveryTimeModel`; see there for its bound.

    >>> model = DeliveryTimeClassifier()
    >>> for _ in range(30):
    ...     model.learn_one({"user": "usr_ada", "slot": 19}, True)
    >>> model.predict_one({"user": "usr_ada", "slot": 19})
    True
    """

    def __init__(
        self,
        user: str = "user",
        slot: str = "slot",
        people_max: int = 10_000,
        seed: int = 0,
    ) -> None:
        self.user = user
        self.slot = slot
        self.people_max = people_max
        self.seed = seed
        self.model = DeliveryTimeModel(seed=seed, people_max=people_max)
        self._labels: dict[bool, Any] = {}

    @property
    def _multiclass(self) -> bool:
        return False

    def learn_one(self, x: dict[Hashable, Any], y: Any) -> None:
        """Take in one outcome."""
        self._labels[bool(y)] = y
        user, slot = self._read(x)
        self.model.learn([user], np.array([slot]), np.array([bool(y)]))

    def predict_proba_one(self, x: dict[Hashable, Any], **_kwargs: Any) -> dict[Any, float]:
        """Probability of each outcome. State: reads only."""
        user, slot = self._read(x)
        chance = float(self.model.predict([user])[0, slot])
        return {self._labels.get(False, False): 1.0 - chance, self._labels.get(True, True): chance}

    def _read(self, x: Mapping[Hashable, Any]) -> tuple[str, int]:
        slot = x.get(self.slot, 0)
        return str(x.get(self.user, "")), int(slot) % SLOTS
