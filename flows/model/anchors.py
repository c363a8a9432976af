"""What shapes are bent from: how high each strength is, and how much later weekends are.

Data bends a curve hour by hour only slowly. Where it agrees over many shapes, it is told sooner:
all bumps of one strength are too high or too low, or rhythms of one time of day come later at
weekends. Both are averaged over a grid, by how likely they make what was added up over people.
"""

from __future__ import annotations

from functools import cache
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
    gain = gains(now, moved, answered, expected, grip)
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
    workdays = np.repeat(day[None], len(OFFSETS), axis=0)
    return np.concatenate([workdays, day @ _turns()], axis=1)


@cache
def _turns() -> Floats:
    """What turns a day by each offset, between hours on a line. Shapes: (offsets, 24, 24)."""
    hour = np.arange(HOURS)
    turned = [
        [np.interp(hour - offset, hour, one, period=HOURS) for one in np.eye(HOURS)]
        for offset in OFFSETS
    ]
    return np.array(turned)


def first_anchors() -> Floats:
    """The same before any data."""
    nothing = np.zeros(dictionary().curve.shape)
    return anchors(nothing, nothing, nothing, nothing)


def gains(now: Floats, moved: Floats, answered: Floats, expected: Floats, grip: Floats) -> Floats:
    """Log likelihood that each height and offset would add. Shapes: (J, offsets, heights).

    A move by m takes a chance c to odds that are exp(m) times as high, so that silences lose
    log(1 - c + c exp(m)). Offsets leave workdays as they are.
    """
    chance = np.clip(1.0 - grip / (expected + 1e-9), 1e-6, 1.0 - 1e-6)
    sent, first, still = (expected / chance).T, (chance * np.exp(-now)).T, (1.0 - chance).T
    moves = np.einsum("jb,jdb->jd", answered, moved)
    gain = moves[:, :, None] * HEIGHTS - np.einsum("jb,jb->j", answered, now)[:, None, None]
    workdays, weekends = _first_odds()
    for days, at_first in ((slice(HOURS), workdays), (slice(HOURS, None), weekends)):
        used = sent[days].any(axis=1)
        odds = at_first[used]
        odds[:, EVERYONE] = _odds(moved[EVERYONE : EVERYONE + 1, : odds.shape[2], days])[used, 0]
        odds *= first[days][used][:, :, None, None]
        odds += still[days][used][:, :, None, None]
        np.log(odds, out=odds)
        gain -= np.einsum("bjdh,bj->jdh", odds, sent[days][used])
    return np.asarray(gain)


def _odds(moved: Floats) -> Floats:
    """How many times higher odds are at each height. Shapes: (J, D, B) to (B, J, D, heights)."""
    by_bin = np.ascontiguousarray(moved.transpose(2, 0, 1))  # so what is made of it lies in order
    return np.asarray(np.exp(by_bin[..., None] * HEIGHTS))


@cache
def _first_odds() -> tuple[Floats, Floats]:
    """The same for shapes as they are at the start, on workdays, at one offset, and at weekends."""
    moved = dictionary().moved
    return _odds(moved[:, :1, :HOURS]), _odds(moved[:, :, HOURS:])


def _chances(score: Floats) -> Floats:
    chance = np.exp(score - score.max(axis=-1, keepdims=True))
    return np.asarray(chance / chance.sum(axis=-1, keepdims=True))
