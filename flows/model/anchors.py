"""What shapes are bent from: how high each strength is, and how much later weekends are.

Data bends a curve hour by hour only slowly. Where it agrees over many shapes, it is told sooner:
all bumps of one strength are too high or too low, or rhythms of one time of day come later at
weekends. Both are averaged over a grid, by how likely they make what was added up over people.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from flows.model.shapes import (
    EVERYONE,
    FLAT,
    HEIGHTS,
    HOURS,
    OFFSETS,
    Floats,
    dictionary,
    in_rhythm,
    near_rhythm,
)

# Weekends of all people together are hardly later; those of one rhythm may be by hours.
_OFFSET_PRIOR: Final = np.repeat(
    -0.5 * (OFFSETS[None] / 3.0) ** 2, in_rhythm().shape[1], axis=0
)  # (R, offsets)
_OFFSET_PRIOR[EVERYONE] = -0.5 * (OFFSETS / 1.5) ** 2
_HEIGHT_PRIOR: Final = -0.5 * (np.log(HEIGHTS) / 0.3) ** 2


def anchors(now: Floats, answered: Floats, expected: Floats, grip: Floats) -> Floats:
    """Curves that the shapes are drawn towards, in logits.

    Shapes: present curves, answers seen, answers expected under them, and information, all (J, 48).
    """
    shapes = dictionary()
    moved = shapes.moved.copy()
    moved[EVERYONE] = _later_weekends(now[EVERYONE, :HOURS])
    gain = _gains(now, moved, answered, expected, grip)
    prior = in_rhythm() @ _OFFSET_PRIOR
    by_height = (gain + prior[:, :, None]).max(axis=1)  # (J, heights)
    height = _chances(shapes.in_strength.T @ by_height + _HEIGHT_PRIOR)
    of_shape = shapes.in_strength @ height  # (J, heights)
    of_shape[: FLAT + 1] = HEIGHTS == 1.0
    by_offset = (gain * of_shape[:, None]).sum(axis=2)  # (J, offsets)
    offset = near_rhythm() @ (in_rhythm().T @ by_offset) + _OFFSET_PRIOR
    offset = in_rhythm() @ _chances(offset)
    found = (of_shape @ HEIGHTS)[:, None] * np.einsum("jd,jdb->jb", offset, moved)
    found[EVERYONE, :HOURS] = 0.0  # bent from flat, and its weekends from its workdays
    return np.asarray(found)


def _later_weekends(day: Floats) -> Floats:
    """Workdays as they are, weekends like them at each offset. Shapes: (24,) to (offsets, 48)."""
    hour = np.arange(HOURS)
    turned = [np.interp(hour - offset, hour, day, period=HOURS) for offset in OFFSETS]
    return np.concatenate([np.repeat(day[None], len(OFFSETS), axis=0), np.array(turned)], axis=1)


def first_anchors() -> Floats:
    """The same before any data."""
    nothing = np.zeros(dictionary().curve.shape)
    return anchors(nothing, nothing, nothing, nothing)


def _gains(now: Floats, moved: Floats, answered: Floats, expected: Floats, grip: Floats) -> Floats:
    """Log likelihood that each height and offset would add. Shapes: (J, offsets, heights)."""
    chance = np.clip(1.0 - grip / (expected + 1e-9), 1e-6, 1.0 - 1e-6)
    sent = expected / chance
    gain = np.zeros((len(now), len(OFFSETS), len(HEIGHTS)))
    for place, height in enumerate(HEIGHTS):
        move = height * moved - now[:, None]
        cost = np.log1p(chance[:, None] * np.expm1(move))
        gain[:, :, place] = np.einsum("jb,jdb->jd", answered, move)
        gain[:, :, place] -= np.einsum("jb,jdb->jd", sent, cost)
    return gain


def _chances(score: Floats) -> Floats:
    chance = np.exp(score - score.max(axis=-1, keepdims=True))
    return np.asarray(chance / chance.sum(axis=-1, keepdims=True))
