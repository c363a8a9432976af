"""Sweeps of invented people, by the native library and by numpy; also for the sanitizers."""

from __future__ import annotations

import random
from copy import deepcopy
from dataclasses import fields, replace
from typing import Final

import numpy as np

from flows.model.kernel import Kernel, sweep_by
from flows.model.people import People, Rows
from flows.model.population import Curves, Sums, first_curves
from flows.model.shapes import BINS, HOURS
from flows.model.sweeping import sweep_block
from flows.model.tuning import Tuning

DIGITS: Final = 2e-6  # of exponentials in single precision, which both have
USUAL: Final = Tuning()


def curves(seed: int = 0) -> Curves:
    """Curves that data has bent."""
    rng, first = np.random.default_rng(seed), first_curves()
    share = first.share * rng.uniform(0.2, 3.0, first.share.shape)
    return replace(
        first,
        curve=first.curve + rng.normal(0.0, 0.3, first.curve.shape),
        share=share / share.sum(),
        activity_weight=float(rng.uniform(0.0, 1.0)),
    )


def crowd(
    many: int, *, seed: int = 0, sends: float = 0.0, recent: float = 0.0, active: float = 0.0
) -> People:
    """Invented people with so many sends and activities each; nothing happens at night."""
    rng, people = np.random.default_rng(seed), People(max(many, 1))
    rows = people.claim([f"usr_{number}" for number in range(many)])
    day = np.arange(BINS) % HOURS >= 7
    for name, mean in (("sent", sends), ("recent_sent", recent), ("activity", active)):
        getattr(people, name)[rows] = rng.poisson(day * mean / day.sum(), (many, BINS))
    people.recent_activity[rows] = rng.poisson(day * active / 200, (many, BINS))
    for name in ("", "recent_"):
        sent = getattr(people, name + "sent").astype(np.int64)
        getattr(people, name + "answered")[:] = rng.binomial(sent, 0.3)
    kept = rng.choice(np.array([1.0, 0.37], np.float32), (len(people.sent), 1))
    people.sent *= kept  # as after a change
    people.answered *= kept
    hours = rng.integers(0, HOURS, many)
    people.preference[rows] = np.where(rng.random(many) < 0.2, hours, -1)
    return people


def torn() -> People:
    """People who never answered in one hour, and now always do: no digits are left of both."""
    people = crowd(9, seed=6, sends=20.0, recent=7.0)
    people.sent[:5, 12], people.answered[:5, 12] = 1_000.0, 0.0
    people.recent_sent[:5, 12] = people.recent_answered[:5, 12] = 300.0
    return people


def at_odds() -> People:
    """People who answer when they are not about, and never when they are: activity is all wrong."""
    people = crowd(9, seed=8)
    rows = rows_of(people)
    people.activity[rows, 20] = 300.0
    people.sent[rows, 9] = people.answered[rows, 9] = 300.0
    people.sent[rows, 20] = 300.0
    return people


def rows_of(people: People) -> Rows:
    return np.flatnonzero(people.here)


def both(
    kernel: Kernel, people: People, now: Curves, tuning: Tuning = USUAL
) -> tuple[tuple[Sums, People], tuple[Sums, People]]:
    """What numpy makes of all people, and what a kernel does: sums, and the people after it.

    The sums start other than at zero, since a sweep adds to what is there.
    """
    made = []
    for by in (None, kernel):
        sums, after = Sums.zero(), deepcopy(people)
        for field in fields(Sums):
            getattr(sums, field.name)[...] = 1.0
        after.changed[:] = False
        if by is None:
            sweep_block(after, rows_of(after), now, sums, tuning=tuning)
        else:
            sweep_by(by, after, rows_of(after), now, sums, tuning=tuning)
        made.append((sums, after))
    return made[0], made[1]


def differences(expected: Sums, found: Sums) -> dict[str, float]:
    """How far sums are apart, as a share of what each person may add to one of them."""
    people = max(1.0, float(expected.people[0]))
    apart = {}
    for field in fields(Sums):
        one, other = getattr(expected, field.name), getattr(found, field.name)
        most = max(people, float(np.abs(one).max()))
        apart[field.name] = float(np.abs(one - other).max()) / most
    return apart


def compare(kernel: Kernel, people: People, now: Curves, tuning: Tuning = USUAL) -> None:
    """Sweep both ways. Errors: AssertionError where sums or what is kept of people differ."""
    (expected, before), (found, after) = both(kernel, people, now, tuning)
    apart = differences(expected, found)

    assert max(apart.values()) < DIGITS, apart
    for name in (*People.arrays(), "changed"):
        one, other = getattr(before, name), getattr(after, name)
        assert np.allclose(one, other, rtol=5e-6, atol=1e-6), name  # kept with a chance


def compare_drawn(kernel: Kernel, rng: random.Random) -> None:
    """Compare a crowd that is drawn."""
    seed = rng.randrange(1 << 30)
    means = {name: rng.choice((0.0, 0.5, 5.0, 60.0)) for name in ("sends", "recent", "active")}
    people = crowd(rng.choice((1, 2, 31, 32, 33, 64, 256)), seed=seed, **means)
    compare(kernel, people, curves(seed))
