"""Draw a time for each request of a block: one question to each model, with known odds."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from flows.model.evidence.explore import Exploration
from flows.timing.allow import Allowed
from flows.timing.ask import Ask
from flows.timing.calendar import Ints
from flows.timing.feedback import HOLDOUT, IMMEDIATE, NO_SLOT, OPTIMISED
from flows.timing.learners import Learner
from flows.timing.trial import HoldoutRule, odds_of_bins

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

ARM_NAMES: Final = ("optimised", "holdout", "immediate")
NO_MODEL: Final = "none"


class Draw(msgspec.Struct, kw_only=True, gc=False):
    """A decided request.

    Shapes: `odds` and `times` (168,), of all slots; None where none was drawn.
    """

    ask: Ask
    arm: int
    reason: str
    at_ms: int
    slot: int = NO_SLOT
    propensity: float = 1.0
    allowed: int = 0
    expected: float = 0.0
    bins: bytes = b""
    model: str = NO_MODEL
    version: int = 0
    odds: Any = None
    times: Ints | None = None

    @property
    def arm_name(self) -> str:
        """The arm as records name it."""
        return ARM_NAMES[self.arm]


def send_now(ask: Ask, reason: str) -> Draw:
    """A request that does not wait: its first moment, drawn from nothing."""
    return Draw(ask=ask, arm=IMMEDIATE, reason=reason, at_ms=ask.earliest_ms)


class Drawer:
    """Draws times.

    Delivery: a request gets the same draw whenever it is asked for in the same state, whatever
    else stands in its block.
    """

    def __init__(
        self,
        *,
        seed: int,
        holdout: HoldoutRule,
        policies: Mapping[str, str],
        usual: str,
        floor: float,
    ) -> None:
        self._seed = seed
        self._holdout = holdout
        self._policies = policies
        self._usual = usual
        self._floor = floor

    def draw(
        self,
        asks: Sequence[Ask],
        allowed: Allowed,
        learners: Mapping[str, Learner],
        explore: Exploration,
    ) -> list[Draw]:
        """A time for each request. Shapes: every row has an allowed slot."""
        uniform = allowed.slots / allowed.slots.sum(axis=1, keepdims=True)
        held = [self._holdout.holds(ask.subject) for ask in asks]
        names = [self._policies.get(ask.body.campaign, self._usual) for ask in asks]
        odds, expected = uniform.copy(), np.zeros(allowed.slots.shape)
        for name in sorted(set(names)):
            rows = np.array([row for row, found in enumerate(names) if found == name])
            users = [asks[row].subject for row in rows]
            learner = learners[name]
            expected[rows] = learner.predict(users)
            own = np.array([row for row in rows if not held[row]], np.intp)
            if len(own):
                odds[own] = self._odds(
                    learner,
                    [asks[row].subject for row in own],
                    allowed.slots[own],
                    expected=expected[own],
                    share=explore.share,
                )
        luck = np.array([self._luck(ask.event) for ask in asks])
        slots = _pick(odds, luck)
        bins = odds_of_bins(odds)
        counts = allowed.slots.sum(axis=1)
        return [
            Draw(
                ask=ask,
                arm=HOLDOUT if held[row] else OPTIMISED,
                reason="holdout" if held[row] else explore.reason,
                at_ms=int(allowed.at_ms[row, slots[row]]),
                slot=int(slots[row]),
                propensity=float(odds[row, slots[row]]),
                allowed=int(counts[row]),
                expected=float(expected[row, slots[row]]),
                bins=bins[row],
                model="uniform" if held[row] else names[row],
                version=0 if held[row] else learners[names[row]].experience,
                odds=odds[row],
                times=allowed.at_ms[row],
            )
            for row, ask in enumerate(asks)
        ]

    def _odds(
        self, learner: Learner, users: list[str], allowed: Bools, *, expected: Floats, share: float
    ) -> Floats:
        """The model's own odds, or the best slot and the floor once no more is paid for."""
        if share > self._floor:
            return learner.odds(users, allowed)
        best = np.where(allowed, expected, -np.inf).argmax(axis=1)
        odds: Floats = self._floor * allowed / allowed.sum(axis=1, keepdims=True)
        odds[np.arange(len(users)), best] += 1 - self._floor
        return odds

    def _luck(self, event: str) -> float:
        """A number in [0, 1) that a request has for ever."""
        key = self._seed.to_bytes(8, "little", signed=True)
        digest = hashlib.blake2b(event.encode(), key=key, digest_size=8).digest()
        return (int.from_bytes(digest, "little") >> 11) / 2.0**53


def _pick(odds: Floats, luck: Floats) -> Ints:
    """The slot of each row on which its luck falls; never one without a chance."""
    reach = odds.cumsum(axis=1)
    picked = (luck[:, None] * reach[:, -1:] >= reach).sum(axis=1)
    last = odds.shape[1] - 1 - (odds[:, ::-1] > 0).argmax(axis=1)
    found: Ints = np.minimum(picked, last).astype(np.int64)
    return found
