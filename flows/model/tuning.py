"""Numbers of the model that simulated worlds were tuned on."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """How boldly the model draws, forgets and moves; docs/delivery-time.md says how it was set."""

    sharpness: float = 150.0  # how quickly odds fall with the gap, times the root of experience
    floor: float = 0.005  # share of draws that is uniform, 0 to 1
    bonus: float = 0.1  # standard deviations added to the mean before the gap
    window: float = 5.0  # sends of a person between two looks for a change
    keep: float = 1.0  # of the past that is kept when a window closes, 0 to 1
    growth: float = 0.15  # a sweep takes as many events as this share of all so far
    pace: float = 6.0  # and at most this many events a person
