"""What a person's zone is worth: a policy that is told UTC slots when clocks change."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from flows.timing_bench.play import Bools, Policy
from flows.timing_bench.worlds import WEEK, Floats, Ints


class InUtc:
    """Another policy that is told UTC slots in place of local ones: what zones are worth.

    Each person sits at some offset; when `jump` is called, all clocks go forward by an hour.
    """

    def __init__(self, inner: Policy) -> None:
        self.inner = inner
        self.offset = 0

    def jump(self) -> None:
        """Clocks change: what was 18:00 UTC for somebody at 19:00 local is 17:00 UTC from now."""
        self.offset = 1

    def state_preference(self, users: list[str], slots: Ints) -> None:
        """Pass on."""
        self.inner.state_preference(users, self._utc(slots))

    def observe_activity(self, users: list[str], slots: Ints) -> None:
        """Pass on."""
        self.inner.observe_activity(users, self._utc(slots))

    def decide(self, users: list[str], allowed: Bools, *, keys: Ints) -> tuple[Ints, Floats]:
        """Ask in UTC, answer in local slots."""
        turned: NDArray[np.bool_] = np.roll(allowed, -self.offset, axis=1)
        slots, chance = self.inner.decide(users, turned, keys=keys)
        return (slots + self.offset) % WEEK, chance

    def learn(self, users: list[str], slots: Ints, responded: Bools) -> None:
        """Pass on."""
        self.inner.learn(users, self._utc(slots), responded)

    def correct(self, users: list[str], slots: Ints) -> None:
        """Pass on."""
        self.inner.correct(users, self._utc(slots))

    def _utc(self, slots: Ints) -> Ints:
        return (slots - self.offset) % WEEK
