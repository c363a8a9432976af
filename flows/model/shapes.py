"""The dictionary of rhythms that a person's curve is looked up in, before data bends it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

HOURS: Final = 24
SLOTS: Final = 168
BINS: Final = 48  # workday hours, then weekend hours
FRIDAY: Final = 4

# Slot of the week to bin.
BIN_OF_SLOT: Final = np.where(
    np.arange(SLOTS) // HOURS > FRIDAY, HOURS + np.arange(SLOTS) % HOURS, np.arange(SLOTS) % HOURS
)
LEVELS: Final = np.arange(-5.5, 3.6, 0.75)  # logit of the mean response
LEVEL_COUNT: Final = len(LEVELS)
EVERYONE: Final = 0  # the shape that the whole population bends, from flat
FLAT: Final = 1
_WAKING: Final = slice(7, 22)
_STRENGTHS: Final = (0.5, 1.8)
HEIGHTS: Final = np.array(
    [0.5, 0.65, 0.8, 1.0, 1.25, 1.5, 1.8]
)  # of a strength's bumps, times that
OFFSETS: Final = np.arange(-4.0, 4.1, 0.5)  # hours by which weekends may be later
_PEAKS: Final = np.arange(6.5, 23.6, 1.0)
_PAIRS: Final = ((8.0, 18.0), (8.0, 21.0), (12.5, 20.0))
BUMPS: Final = slice(2, 2 + len(_STRENGTHS) * len(_PEAKS))  # shapes of one peak, by strength
STRENGTH_COUNT: Final = len(_STRENGTHS)


@dataclass(frozen=True)
class Dictionary:
    """Shapes at the start, and how far data may bend each.

    Shapes: `curve` (J, 48) in logits, zero mean over waking workday hours; `moved` (J, offsets,
    48) the same with each offset at weekends; `in_strength` (J, strengths) ones and zeros;
    `stiffness` (J,) in prior observations of information.
    """

    curve: Floats
    moved: Floats
    in_strength: Floats
    stiffness: Floats
    prior: Floats
    rhythm: NDArray[np.int64]  # (J,): shapes of one peak in several strengths are one rhythm


def _bump(peak: float, width: float) -> Floats:
    angle = 2 * np.pi * (np.arange(HOURS) - peak) / HOURS
    return np.asarray(np.exp(width * (np.cos(angle) - 1.0)))


def centre(curve: Floats) -> Floats:
    """Shift shapes so that waking workday hours average zero. Shapes: (..., 48)."""
    return np.asarray(curve - curve[..., _WAKING].mean(axis=-1, keepdims=True))


@cache
def dictionary() -> Dictionary:
    """The population's curve, none, one bump anywhere in two strengths, a few of two bumps."""
    moved = np.array([_weeks(offset) for offset in OFFSETS]).transpose(1, 0, 2)
    curve = moved[:, len(OFFSETS) // 2]
    in_strength = np.zeros((len(curve), len(_STRENGTHS) + 1))
    bumps = np.repeat(np.arange(len(_STRENGTHS)), len(_PEAKS))
    in_strength[2 + np.arange(len(bumps)), bumps] = 1.0
    in_strength[2 + len(bumps) :, -1] = 1.0
    stiffness = np.full(len(curve), 30.0)
    stiffness[EVERYONE] = 2.0
    prior = np.full(len(curve), 0.8 / (len(curve) - 2))
    prior[EVERYONE], prior[FLAT] = 0.1, 0.1
    bumps = np.tile(2 + np.arange(len(_PEAKS)), len(_STRENGTHS))
    pairs = 2 + len(_PEAKS) + np.arange(len(_PAIRS))
    rhythm = np.concatenate([[EVERYONE, FLAT], bumps, pairs])
    return Dictionary(
        curve=curve,
        moved=moved,
        in_strength=in_strength,
        stiffness=stiffness,
        prior=prior,
        rhythm=rhythm,
    )


def _weeks(offset: float) -> Floats:
    """All shapes, with weekends that much later. Shapes: (J, 48)."""
    days = []
    for later in (0.0, offset):
        day = [np.zeros(HOURS), np.zeros(HOURS)]
        day += [strength * _bump(peak + later, 4.0) for strength in _STRENGTHS for peak in _PEAKS]
        day += [1.6 * (_bump(a + later, 6.0) + _bump(b + later, 6.0)) for a, b in _PAIRS]
        days.append(np.array(day))
    return centre(np.concatenate(days, axis=1))


@cache
def in_rhythm() -> Floats:
    """Which shapes belong to which rhythm. Shapes: (J, R), ones and zeros."""
    rhythm = dictionary().rhythm
    belongs = rhythm[:, None] == np.arange(int(rhythm.max()) + 1)[None]
    return np.asarray(belongs, dtype=np.float64)


@cache
def near_rhythm() -> Floats:
    """How much a rhythm may learn from another, by hours between peaks. Shapes: (R, R)."""
    near = np.eye(in_rhythm().shape[1])
    gap = _PEAKS[:, None] - _PEAKS[None]
    bumps = slice(2, 2 + len(_PEAKS))
    near[bumps, bumps] = np.exp(-0.5 * gap**2)
    return near


@cache
def smoother() -> Floats:
    """A kernel around the clock, one hour wide. Shapes: (24, 24), symmetric, peak one."""
    gap = np.abs(np.arange(HOURS)[:, None] - np.arange(HOURS)[None])
    gap = np.minimum(gap, HOURS - gap)
    return np.asarray(np.exp(-0.5 * gap.astype(np.float64) ** 2))


def smooth(values: Floats) -> Floats:
    """Sum each hour with its neighbours, workdays and weekends apart. Shapes: (..., 48)."""
    days = values.reshape(*values.shape[:-1], 2, HOURS)
    return (days @ smoother()).reshape(values.shape)
