"""Vowpal Wabbit as a peer, where it is installed."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np

from flows.timing_bench.peers import Peer
from flows.timing_bench.play import Bools
from flows.timing_bench.worlds import DAY, Floats, Ints

_WHAT_IT_LEARNS = "--cb_explore_adf --squarecb --gamma_scale 100 -q UA -b 18 --quiet"


def absence() -> str:
    """Why Vowpal Wabbit cannot be measured here; empty where it can."""
    return "" if find_spec("vowpalwabbit") else "package vowpalwabbit is not installed"


class SquareCb(Peer):
    """Vowpal Wabbit's SquareCB over the allowed hours: person and hour crossed.

    State: a hashed weight vector of 2^18, and the odds of what is not yet answered.
    """

    def __init__(self, *, people: int, seed: int) -> None:
        super().__init__(people=people, seed=seed)
        # An optional peer: the module is looked up when it is asked for.
        vowpal: Any = import_module("vowpalwabbit")
        self._vw = vowpal.Workspace(f"{_WHAT_IT_LEARNS} --random_seed {seed + 1}")
        self._drawn: dict[tuple[str, int], float] = {}

    def decide(self, users: list[str], allowed: Bools, *, keys: Ints) -> tuple[Ints, Floats]:
        """Draw from the odds that Vowpal Wabbit returns."""
        del keys
        slots = np.zeros(len(users), dtype=np.int64)
        chance = np.zeros(len(users))
        for row, user in enumerate(users):
            options = np.flatnonzero(allowed[row])
            lines = [f"shared |U u={user}", *(f"|A {_arm(int(slot))}" for slot in options)]
            odds = np.array(self._vw.predict("\n".join(lines)))
            pick = int(self.rng.choice(len(odds), p=odds / odds.sum()))
            slots[row] = options[pick]
            chance[row] = odds[pick]
            self._drawn[user, int(slots[row])] = float(odds[pick])
        return slots, chance

    def learn(self, users: list[str], slots: Ints, responded: Bools) -> None:
        """One contextual step an outcome: cost is minus the answer."""
        for user, slot, answered in zip(users, slots.tolist(), responded.tolist(), strict=True):
            chance = self._drawn.pop((user, slot), 0.1)
            label = f"0:{-float(answered)}:{max(chance, 1e-3):.6f}"
            self._vw.learn(f"shared |U u={user}\n{label} |A {_arm(slot)}")

    def correct(self, users: list[str], slots: Ints) -> None:
        """Late answers are not told: it has no way to take a step back."""


def _arm(slot: int) -> str:
    return f"h={slot % DAY} w={slot // DAY >= 5}"  # noqa: PLR2004 - Saturday is day 5
