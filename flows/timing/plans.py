"""When each person has got or will get messages: what caps and gaps are counted on."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from flows.steps.noted import Changes, Noted
from flows.timing.calendar import DAY_MS, SLOTS, Ints

Bools = npt.NDArray[np.bool_]

ANY_CHANNEL: Final = ""
"""Of a message that may still go by more than one channel."""

KEPT_A_PERSON: Final = 32
_LOOK_BACK_MS: Final = 2 * DAY_MS

Plan = tuple[int, str]


class Plans:
    """Times of messages by person, each with its channel where that is known.

    State: at most `KEPT_A_PERSON` times a person, and those of `people_max` people; whoever was
    touched longest ago goes first. `erased` tells that somebody was forgotten since changes were
    told.
    """

    def __init__(self, people_max: int) -> None:
        self._people_max = people_max
        self._plans: Noted[str, list[Plan]] = Noted()
        self.erased = False

    def __len__(self) -> int:
        return len(self._plans)

    def of(self, subject: str) -> list[Plan]:
        """The times of one person."""
        return self._plans.get(subject) or []

    def add(self, subject: str, at_ms: int, channel: str, *, now_ms: int) -> None:
        """Note a message that is planned or was sent; forgets what is long past."""
        known = self._plans.drop(subject) or []
        kept = [plan for plan in known if plan[0] >= now_ms - _LOOK_BACK_MS]
        self._plans.put(subject, sorted([*kept, (at_ms, channel)])[-KEPT_A_PERSON:])
        if len(self._plans) > self._people_max:
            self._plans.drop(next(iter(self._plans)))

    def drop(self, subject: str, at_ms: int, channel: str) -> None:
        """Take a plan back."""
        known = self._plans.get(subject)
        if known is not None and (at_ms, channel) in known:
            known.remove((at_ms, channel))
            if known:
                self._plans.put(subject, known)
            else:
                self._plans.drop(subject)

    def forget(self, subject: str) -> None:
        """Forget a person, of whom earlier changes may tell even where nothing is left."""
        self._plans.drop(subject)
        self.erased = True

    def dump(self) -> list[tuple[str, list[Plan]]]:
        """The state, in the order in which people were touched."""
        return [(subject, list(plans)) for subject, plans in self._plans.items()]

    def load(self, dumped: list[tuple[str, list[Plan]]]) -> None:
        """Take back what `dump` gave."""
        self._plans.fill(
            [subject for subject, _ in dumped],
            [[(at, by) for at, by in plans] for _, plans in dumped],
        )

    def watch(self) -> None:
        """Note changes from now on."""
        self._plans.watch()
        self.erased = False

    def take_changes(self) -> Changes | None:
        """What changed since the last time; None for nothing."""
        self.erased = False
        return self._plans.take_changes()

    def apply(self, changes: Changes) -> None:
        """Change as `take_changes` told."""
        gone, subjects, plans = changes
        told = [[(at, by) for at, by in one] for one in plans]
        self._plans.apply((gone, subjects, told))


class Caps:
    """How many messages a person may get, and how far apart.

    Units: messages in any 24 hours; milliseconds.
    """

    def __init__(self, *, person: int, channel: int, gap_ms: int) -> None:
        self._person = person
        self._channel = channel
        self._gap_ms = gap_ms

    def free(self, at_ms: Ints, plans: list[Plan], channels: tuple[str, ...]) -> Bools:
        """The moments at which one more message keeps all caps, on some channel at least.

        Shapes: (168,) each.
        """
        times = [at for at, _ in plans]
        open_ = np.ones(SLOTS, np.bool_)
        for time_ms in times:
            open_ &= np.abs(at_ms - time_ms) >= self._gap_ms
        open_ &= _fits(at_ms, times, self._person)
        some = np.zeros(SLOTS, np.bool_)
        for channel in channels:
            some |= _fits(at_ms, [at for at, by in plans if by == channel], self._channel)
        return open_ & some


def _fits(at_ms: Ints, times: list[int], most: int) -> Bools:
    """Where one more time makes no 24 hours with more than `most`. Shapes: `times` rise."""
    open_ = np.ones(SLOTS, np.bool_)
    for first, last in zip(times, times[most - 1 :], strict=False):
        open_ &= np.maximum(at_ms, last) - np.minimum(at_ms, first) >= DAY_MS
    return open_
