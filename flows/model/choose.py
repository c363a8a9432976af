"""Draw slots by inverse-gap weighting, with exact odds and repeatable luck."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from flows.model.people import code_of
from flows.model.shapes import Floats

Bools = NDArray[np.bool_]
Codes = NDArray[np.uint64]
Slots = NDArray[np.int64]


def odds(value: Floats, allowed: Bools, *, sharpness: float, floor: float) -> Floats:
    """Probability of each slot: the best gets what the others leave.

    A slot whose value is a share g below the best gets 1 / (slots + sharpness * g); all of it is
    mixed with `floor` times a uniform draw, so nothing allowed is ever impossible.

    Shapes: values and allowed (n, A); rows of the answer add up to one.
    Source: Foster and Rakhlin 2020, "Beyond UCB", inverse gap weighting; the relative gap is ours.
    """
    rows = np.arange(len(value))
    shown = np.where(allowed, value, -np.inf)
    best = shown.argmax(axis=1)
    top = shown[rows, best][:, None]
    many = allowed.sum(axis=1, keepdims=True)
    gap = np.where(allowed, (top - value) / (np.abs(top) + 1e-9), np.inf)
    chance = np.asarray(1.0 / (many + sharpness * gap))
    chance[rows, best] = 0.0
    chance[rows, best] = 1.0 - chance.sum(axis=1)
    return np.asarray((1.0 - floor) * chance + floor * allowed / many)


def draw(chance: Floats, luck: Floats) -> tuple[Slots, Floats]:
    """One column a row, at the odds of that row. Shapes: luck (n,) in [0, 1)."""
    cut = chance.cumsum(axis=1)
    slots = (luck[:, None] * cut[:, -1:] >= cut).sum(axis=1)
    last = chance.shape[1] - 1 - (chance[:, ::-1] > 0).argmax(axis=1)
    slots = np.minimum(slots, last)
    return slots, chance[np.arange(len(slots)), slots]


def luck_of(seed: int, users: Codes, keys: Codes) -> Floats:
    """A number in [0, 1) for each decision, the same at every repeat.

    Source: the finaliser of splitmix64 (Steele, Lea, Flood 2014), applied three times.
    """
    mixed = _mix(_mix(_mix(np.uint64(seed % 2**64) + np.zeros_like(users)) ^ users) ^ keys)
    return np.asarray((mixed >> np.uint64(11)).astype(np.float64) / 2.0**53)


def _mix(value: Codes) -> Codes:
    with np.errstate(over="ignore"):
        value = value + np.uint64(0x9E3779B97F4A7C15)
        value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


def codes_of_keys(keys: Sequence[str] | Sequence[int] | NDArray[np.int64]) -> Codes:
    """Decision keys as numbers: whole numbers as they are, texts hashed."""
    if len(keys) and isinstance(keys[0], str):
        return np.array([code_of(str(key)) for key in keys], dtype=np.uint64)
    return np.asarray(keys).astype(np.int64).view(np.uint64)
