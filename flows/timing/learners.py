"""The models that may choose times, behind one interface and under the names of settings."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from connectors.native.level import Wish, choose_level, load_native
from flows.model.alternatives import LinUcbPolicy, LogisticPolicy, RiverPolicy
from flows.model.choose import odds as odds_of
from flows.model.delivery_time import DeliveryTimeModel
from flows.model.exchange import Population, UnreadableStateError
from flows.model.kernel import Kernel
from flows.model.people import People
from flows.model.shapes import BIN_OF_SLOT

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

USUAL: Final = "latent_class"
RIVER_FLOOR: Final = 0.05
"""Share of times that River's models draw evenly."""


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

    def dump_standing(self) -> bytes:
        """What it knows of all people together; the same bytes for the same."""
        ...


@runtime_checkable
class Fading(Protocol):
    """A learner that can forget a part of everybody's past."""

    def fade(self, keep: float) -> None:
        """Forget all but this share."""
        ...


@runtime_checkable
class Counting(Protocol):
    """A learner that keeps counts of each person by hour, for clusters of them."""

    @property
    def people(self) -> People:
        """The counts."""
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
    """The delivery-time model of `flows.model`, with a kernel that sweeps for it or without."""

    def __init__(self, kernel: Kernel | None = None) -> None:
        self._kernel = kernel

    def make(self, *, seed: int, lane: int, people_max: int) -> Learner:
        """One that has seen nothing."""
        made: Learner
        made = DeliveryTimeModel(
            seed=seed, source=f"lane-{lane}", people_max=people_max, kernel=self._kernel
        )
        return made

    def load(self, dumped: bytes) -> Learner:
        """One as it was."""
        loaded: Learner = DeliveryTimeModel.load(dumped, kernel=self._kernel)
        return loaded


class RiverLearner:
    """One of River's models behind our interface.

    State: pickled as a whole; nothing of it travels to other lanes.
    Delivery: one person after the other, so about a hundred times slower than the usual model.
    """

    def __init__(self, policy: RiverPolicy, experience: int = 0) -> None:
        self._policy = policy
        self._experience = experience

    @property
    def experience(self) -> int:
        """Outcomes learned so far."""
        return self._experience

    def state_preference(self, users: Sequence[str], slots: Ints) -> None:
        """Take in the hours that people asked for."""
        self._policy.state_preference(users, slots)

    def observe_activity(self, users: Sequence[str], slots: Ints) -> None:
        """Take in when people were active."""
        self._policy.observe_activity(users, slots)

    def learn(self, users: Sequence[str], slots: Ints, responded: Bools) -> None:
        """Take in outcomes."""
        self._policy.learn(users, slots, responded)
        self._experience += len(users)

    def correct(self, users: Sequence[str], slots: Ints) -> None:
        """Turn negative outcomes into positive ones, as far as the model can."""
        self._policy.correct(users, slots)

    def odds(self, users: Sequence[str], allowed: Bools) -> Floats:
        """The best slot, but for a floor."""
        value = self._scores(users)
        return odds_of(value, allowed, sharpness=self._policy.sharpness, floor=RIVER_FLOOR)

    def predict(self, users: Sequence[str]) -> Floats:
        """What it thinks of each slot, within 0 and 1."""
        return np.clip(self._scores(users), 0.0, 1.0)

    def _scores(self, users: Sequence[str]) -> Floats:
        bins = range(int(BIN_OF_SLOT.max()) + 1)
        return np.array([self._policy.scores(user, bins) for user in users])[:, BIN_OF_SLOT]

    def forget(self, user: str) -> Any:
        """Delete a person."""
        return self._policy.forget(user)

    def dump(self) -> bytes:
        """The whole state."""
        return pickle.dumps((self._policy, self._experience))


class River:
    """How to make one of River's models."""

    def __init__(self, policy: type[RiverPolicy]) -> None:
        self._policy = policy

    def make(self, *, seed: int, lane: int, people_max: int) -> Learner:
        """One that has seen nothing."""
        made: Learner
        made = RiverLearner(self._policy(seed=seed + lane, people_max=people_max))
        return made

    def load(self, dumped: bytes) -> Learner:
        """One as it was; only ever from our own recovery store."""
        loaded: Learner
        loaded = RiverLearner(*pickle.loads(dumped))  # noqa: S301 - from our own recovery store
        return loaded


def find_kernel(wish: Wish) -> Kernel | None:
    """The native library's sweep where that level runs; nothing at the pure level.

    Errors: ConfigError when the native level is wished for and cannot be had.
    """
    if choose_level(wish).name == "pure":
        return None
    kernel: Kernel = load_native().sweep
    return kernel


KINDS: Final[dict[str, Callable[[Kernel | None], Kind]]] = {
    USUAL: LatentClass,
    "linucb": lambda _: River(LinUcbPolicy),
    "logistic": lambda _: River(LogisticPolicy),
}
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
