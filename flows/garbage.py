"""When to look for reference cycles: seldom under load, and in small pieces when nothing waits.

Our blocks have none, and each look walks over all that was made since the last one. Under load a
look at every few hundred objects costs a third of the CPU; when traffic is thin, one at two hundred
thousand keeps decisions waiting for a fifth of a second.
"""

from __future__ import annotations

import gc
from typing import Final

YOUNG_MAX: Final = 5_000
"""Objects that were made since the last look, from which a pause is used for one."""

EPOCHS: Final = 100
"""Epochs of lanes after which a pause is used for a look at all that was made since the start."""


def tune_garbage_collection() -> None:
    """Look for reference cycles seldom by itself.

    Source: research/engine section 4, measured with and without.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(200_000, 20, 100)


class IdleCollector:
    """Looks for reference cycles in pauses.

    Promise: a pause takes as long as a look at `YOUNG_MAX` objects and what a read makes; after an
    epoch, at what was made in it and is still there, and after every `EPOCHS` of them at all that
    is there. Python's own rule sees to it where there are no pauses.
    State: how many epochs have ended, and how many of them it has looked after.
    """

    def __init__(self) -> None:
        self._ended = self._seen = 0

    def end_epoch(self) -> None:
        """Note that an epoch is over: most of what was made in it is gone, the rest will stay."""
        self._ended += 1

    def rest(self) -> None:
        """Use a moment in which there is nothing to do."""
        if self._ended > self._seen:
            whole = self._ended // EPOCHS > self._seen // EPOCHS
            self._seen = self._ended
            gc.collect(2 if whole else 1)
        elif gc.get_count()[0] > YOUNG_MAX:
            gc.collect(0)
