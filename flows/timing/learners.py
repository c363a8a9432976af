"""The models that may choose times, behind one interface and under the names of settings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from flows.model.delivery_time import DeliveryTimeModel
from flows.model.exchange import Population, UnreadableStateError

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

USUAL: Final = "latent_class"


class Learner(Protocol):
    """What chooses times: odds before an outcome, lessons after it.

    Shapes: `allowed` and all answers are (n, 168), Monday 00:00 first, on each person's clock.
    """

    @property
    def experience(self) -> int:
        """Outcomes learned so far: what names its version."""
        ...

    def state_preference(self, users: Sequence[str], slots: Ints) -> None:
        """Take in the hours that people asked for."""
        ...

    def observe_activity(self, users: Sequence[str], slots: Ints) -> None:
        """Take in when people were active."""
        ...

    def learn(self, users: Sequence[str], slots: Ints, responded: Bools) -> None:
        """Take in outcomes."""
        ...

    def correct(self, users: Sequence[str], slots: Ints) -> None:
        """Turn negative outcomes into positive ones."""
        ...

    def odds(self, users: Sequence[str], allowed: Bools) -> Floats:
        """The odds at which each allowed slot is to be drawn; rows add up to 1."""
        ...

    def predict(self, users: Sequence[str]) -> Floats:
        """The chance of a response in each slot."""
        ...

    def forget(self, user: str) -> Any:
        """Delete a person."""
        ...

    def dump(self) -> bytes:
        """The whole state, the same bytes for the same state."""
        ...


@runtime_checkable
class Pooling(Protocol):
    """A learner that shares what it knows of all people with those of other lanes."""

    def population(self) -> Population:
        """Its sums."""
        ...

    def merge_population(self, population: Population) -> None:
        """Take in another's sums in place of those it gave before."""
        ...


class Kind(Protocol):
    """How to make a learner anew, and from what it dumped."""

    def make(self, *, seed: int, lane: int, people_max: int) -> Learner:
        """One that has seen nothing."""
        ...

    def load(self, dumped: bytes) -> Learner:
        """One as it was."""
        ...


class LatentClass:
    """The delivery-time model of `flows.model`."""

    def make(self, *, seed: int, lane: int, people_max: int) -> Learner:
        """One that has seen nothing."""
        made: Learner
        made = DeliveryTimeModel(seed=seed, source=f"lane-{lane}", people_max=people_max)
        return made

    def load(self, dumped: bytes) -> Learner:
        """One as it was."""
        loaded: Learner = DeliveryTimeModel.load(dumped)
        return loaded


KINDS: Final[dict[str, Callable[[], Kind]]] = {USUAL: LatentClass}
"""By the names that `AIRSIDE_TIMING__POLICIES` may give to campaigns."""


def take_in(learner: Learner, dumped: bytes) -> bool:
    """Give a learner what another lane published; tells whether it could be read."""
    if not isinstance(learner, Pooling):
        return True
    try:
        learner.merge_population(Population.load(dumped))
    except UnreadableStateError:
        return False
    return True
