"""Other policies behind the model's interface, so that a campaign can be switched to them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Any, Protocol

import numpy as np
from river import bandit, linear_model, optim

from flows.model.choose import Bools, Slots, codes_of_keys, draw, luck_of, odds
from flows.model.delivery_time import DeliveryTimeModel
from flows.model.people import code_of
from flows.model.shapes import BIN_OF_SLOT, HOURS, Floats


class PolicyName(StrEnum):
    """What a campaign's setting may name."""

    DELIVERY_TIME = "delivery-time"
    LIN_UCB = "lin-ucb"
    LOGISTIC = "logistic"


class TimingPolicy(Protocol):
    """What a campaign needs of a policy."""

    def state_preference(self, users: Sequence[str], slots: Slots) -> None:
        """Take in the slots that people asked for."""

    def observe_activity(self, users: Sequence[str], slots: Slots) -> None:
        """Take in what people did on their own."""

    def decide(
        self,
        users: Sequence[str],
        allowed: Bools,
        *,
        keys: Sequence[str] | Sequence[int] | Slots | None = None,
    ) -> tuple[Slots, Floats]:
        """Draw one allowed slot a person, and tell its probability."""

    def learn(self, users: Sequence[str], slots: Slots, responded: Bools) -> None:
        """Take in outcomes."""

    def correct(self, users: Sequence[str], slots: Slots) -> None:
        """Turn negatives into late positives, where the policy can."""


class _PeopleFeatures:
    """What River's models are told of a person: answer rates and activity by part of the day.

    State: 17 numbers a person, at most `people_max`; beyond that the person who came first goes.
    """

    PARTS = 8

    def __init__(self, people_max: int) -> None:
        self._people_max = people_max
        self._counts: dict[str, Floats] = {}

    def add(self, user: str, slot: int, *, answered: bool) -> None:
        """Count an answer, or activity, in its part of the day."""
        if user not in self._counts:
            if len(self._counts) >= self._people_max:
                del self._counts[next(iter(self._counts))]
            self._counts[user] = np.zeros(2 * self.PARTS)
        part = slot % HOURS * self.PARTS // HOURS
        self._counts[user][part + (0 if answered else self.PARTS)] += 1.0

    def of(self, user: str) -> dict[str, float]:
        """Shares of answers and of activity by part of the day."""
        counts = self._counts.get(user)
        if counts is None:
            return {}
        shares: dict[str, float] = {}
        for name, part in (("answer", counts[: self.PARTS]), ("seen", counts[self.PARTS :])):
            total = float(part.sum()) + 2.0
            shares |= {f"{name}{at}": float(part[at]) / total for at in np.flatnonzero(part)}
        return shares

    def forget(self, user: str) -> bool:
        """Delete a person's counts."""
        return self._counts.pop(user, None) is not None


class RiverPolicy(ABC):
    """Common part: features in, scores by bin out, odds by inverse gaps or a floor.

    State: a River model and `_PeopleFeatures`.
    Delivery: one event after another, so about a hundred times slower than the delivery-time
    model; for campaigns of moderate size.
    """

    sharpness = 1e9  # the best slot, but for the floor

    def __init__(self, *, seed: int = 0, people_max: int = 100_000, floor: float = 0.05) -> None:
        self.seed = seed
        self._floor = floor
        self._features = _PeopleFeatures(people_max)
        self._learned = 0

    def state_preference(self, users: Sequence[str], slots: Slots) -> None:
        """A stated slot counts as two activities in it."""
        self.observe_activity([*users, *users], np.concatenate([slots, slots]))

    def observe_activity(self, users: Sequence[str], slots: Slots) -> None:
        """Count by part of the day."""
        for user, slot in zip(users, np.asarray(slots).tolist(), strict=True):
            self._features.add(user, slot, answered=False)

    def decide(
        self,
        users: Sequence[str],
        allowed: Bools,
        *,
        keys: Sequence[str] | Sequence[int] | Slots | None = None,
    ) -> tuple[Slots, Floats]:
        """Score the allowed bins of each person, and draw. State: reads only."""
        value = np.zeros(allowed.shape)
        for row, user in enumerate(users):
            slots = np.flatnonzero(allowed[row])
            bins, back = np.unique(BIN_OF_SLOT[slots], return_inverse=True)
            value[row, slots] = np.array(self.scores(user, bins.tolist()))[back]
        chance = odds(value, allowed, sharpness=self.sharpness, floor=self._floor)
        codes = np.array([code_of(user) for user in users], dtype=np.uint64)
        decision = codes_of_keys(keys if keys is not None else [self._learned] * len(users))
        return draw(chance, luck_of(self.seed, codes, decision))

    def learn(self, users: Sequence[str], slots: Slots, responded: Bools) -> None:
        """Teach outcomes one after the other."""
        rows = zip(users, np.asarray(slots).tolist(), np.asarray(responded).tolist(), strict=True)
        for user, slot, answered in rows:
            self.learn_outcome(user, int(BIN_OF_SLOT[slot]), answered=bool(answered))
            if answered:
                self._features.add(user, slot, answered=True)
            self._learned += 1

    def correct(self, users: Sequence[str], slots: Slots) -> None:
        """Teach the late answer; what the negative did to the weights stays."""
        self.learn(users, slots, np.ones(len(users), dtype=np.bool_))

    def forget(self, user: str) -> bool:
        """Delete a person's features; the shared weights stay."""
        return self._features.forget(user)

    @abstractmethod
    def scores(self, user: str, bins: Iterable[int]) -> list[float]:
        """How good each bin looks for a person."""

    @abstractmethod
    def learn_outcome(self, user: str, at: int, *, answered: bool) -> None:
        """Teach one outcome."""


class LinUcbPolicy(RiverPolicy):
    """River's disjoint LinUCB: a Bayesian regression of its own for each of 48 bins."""

    def __init__(self, *, seed: int = 0, people_max: int = 100_000, floor: float = 0.05) -> None:
        super().__init__(seed=seed, people_max=people_max, floor=floor)
        self._bandit: Any = bandit.LinUCBDisjoint(alpha=1.0, beta=1.0, seed=seed)

    def scores(self, user: str, bins: Iterable[int]) -> list[float]:
        """Upper confidence bounds."""
        context = {"one": 1.0} | self._features.of(user)
        regressions = self._bandit._bayes_lin_regs  # noqa: SLF001 - pull() tells no score
        scores = []
        for at in bins:
            guess = regressions[at].predict_one(context, with_dist=True)
            scores.append(float(guess.mu + guess.sigma))
        return scores

    def learn_outcome(self, user: str, at: int, *, answered: bool) -> None:
        """One step of the bin's regression."""
        context = {"one": 1.0} | self._features.of(user)
        self._bandit.update(at, context, float(answered))


class LogisticPolicy(RiverPolicy):
    """River's logistic regression on hour, weekend, and the person's parts of the day."""

    def __init__(self, *, seed: int = 0, people_max: int = 100_000, floor: float = 0.05) -> None:
        super().__init__(seed=seed, people_max=people_max, floor=floor)
        self._model: Any = linear_model.LogisticRegression(optimizer=optim.Adam(0.01))

    def scores(self, user: str, bins: Iterable[int]) -> list[float]:
        """Probability of an answer."""
        person = self._features.of(user)
        return [self._model.predict_proba_one(_crossed(person, at))[True] for at in bins]

    def learn_outcome(self, user: str, at: int, *, answered: bool) -> None:
        """One gradient step."""
        self._model.learn_one(_crossed(self._features.of(user), at), answered)


def _crossed(person: dict[str, float], at: int) -> dict[str, float]:
    """Features of a person and a bin: the bin, and how the person does in its part of the day."""
    part = at % HOURS * _PeopleFeatures.PARTS // HOURS
    parts = _PeopleFeatures.PARTS
    features = {f"bin{at}": 1.0}
    for name in ("answer", "seen"):
        features[name] = person.get(f"{name}{part}", 0.0)
        features[f"{name}_near"] = sum(
            person.get(f"{name}{(part + step) % parts}", 0.0) for step in (-1, 1)
        )
    return features


def make_policy(name: PolicyName, *, seed: int, people_max: int) -> TimingPolicy:
    """Build the policy that a campaign's setting names."""
    match name:
        case PolicyName.LIN_UCB:
            return LinUcbPolicy(seed=seed, people_max=people_max)
        case PolicyName.LOGISTIC:
            return LogisticPolicy(seed=seed, people_max=people_max)
        case PolicyName.DELIVERY_TIME:
            return DeliveryTimeModel(seed=seed, people_max=people_max)
