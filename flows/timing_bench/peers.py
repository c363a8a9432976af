"""Simple policies that anybody might run, each as good as a page of code makes it."""

from __future__ import annotations

import numpy as np

from flows.timing_bench.play import Bools
from flows.timing_bench.worlds import DAY, WEEK, Floats, Ints

_BINS = 48
_BIN_OF_SLOT = np.where(
    np.arange(WEEK) >= 5 * DAY, DAY + np.arange(WEEK) % DAY, np.arange(WEEK) % DAY
)
_GAP = np.abs(np.arange(DAY)[:, None] - np.arange(DAY)[None])
_NEAR: Floats = np.exp(-0.5 * np.minimum(_GAP, DAY - _GAP) ** 2.0)


class Peer:
    """Counts by person and bin, and a draw of the best-scored slot among some random ones.

    State: two numbers a person and bin; grows with people, since a bench is finite.
    """

    floor = 0.05  # share of uniform draws

    def __init__(self, *, people: int, seed: int) -> None:
        self.rows: dict[str, int] = {}
        self.sent = np.zeros((people, _BINS))
        self.answered = np.zeros((people, _BINS))
        self.rng = np.random.default_rng([seed, 5])

    def find(self, users: list[str]) -> Ints:
        """Rows of people, new ones at the end."""
        return np.array([self.rows.setdefault(user, len(self.rows)) for user in users], dtype=int)

    def state_preference(self, users: list[str], slots: Ints) -> None:
        """Not used by simple policies."""

    def observe_activity(self, users: list[str], slots: Ints) -> None:
        """Used by those that go by activity."""

    def score(self, rows: Ints) -> Floats:
        """How good each bin looks for each person. Shapes: (n, 48)."""
        return np.zeros((len(rows), _BINS))

    def decide(self, users: list[str], allowed: Bools, *, keys: Ints) -> tuple[Ints, Floats]:
        """The best-scored allowed slot, or with a small chance any."""
        del keys
        score = self.score(self.find(users))[:, _BIN_OF_SLOT]
        score = score + 1e-9 * self.rng.random(score.shape)
        best = np.where(allowed, score, -np.inf).argmax(axis=1)
        other = np.where(allowed, self.rng.random(allowed.shape), -1.0).argmax(axis=1)
        slots = np.where(self.rng.random(len(best)) < self.floor, other, best)
        chance = self.floor / allowed.sum(axis=1) + (1.0 - self.floor) * (slots == best)
        return slots, chance

    def learn(self, users: list[str], slots: Ints, responded: Bools) -> None:
        """Count."""
        at = (self.find(users), _BIN_OF_SLOT[slots])
        np.add.at(self.sent, at, 1.0)
        np.add.at(self.answered, at, responded.astype(float))

    def correct(self, users: list[str], slots: Ints) -> None:
        """Count the late answer."""
        np.add.at(self.answered, (self.find(users), _BIN_OF_SLOT[slots]), 1.0)

    def population(self) -> Floats:
        """Answer rate of everybody by bin, smoothed over neighbouring hours. Shapes: (48,)."""
        sent, answered = near(self.sent.sum(axis=0)), near(self.answered.sum(axis=0))
        rate = (answered.sum() + 1.0) / (sent.sum() + 8.0)
        return np.asarray((answered + 5.0 * rate) / (sent + 5.0))


def near(counts: Floats) -> Floats:
    """Counts of each hour with a share of its neighbours'. Shapes: (..., 48)."""
    days = counts.reshape(*counts.shape[:-1], 2, DAY) @ _NEAR
    return np.asarray(days.reshape(counts.shape))


class Random(Peer):
    """Any allowed slot."""

    floor = 1.0


class FixedBestHour(Peer):
    """One hour for everybody: the one that is answered most."""

    def score(self, rows: Ints) -> Floats:
        """The population's rate."""
        return np.repeat(self.population()[None], len(rows), axis=0)


class PersonalBestHour(Peer):
    """What send-time products do: the hour at which a person is most active.

    Activity and answers count alike; people without history get the population's.
    """

    def __init__(self, *, people: int, seed: int) -> None:
        super().__init__(people=people, seed=seed)
        self.seen = np.zeros((people, DAY))

    def observe_activity(self, users: list[str], slots: Ints) -> None:
        """Count by hour of the day."""
        np.add.at(self.seen, (self.find(users), slots % DAY), 1.0)

    def score(self, rows: Ints) -> Floats:
        """Smoothed activity and answers of the person, with a pinch of everybody's."""
        own = self.seen[rows] + self.answered[rows].reshape(-1, 2, DAY).sum(axis=1)
        all_of_it = self.seen.sum(axis=0) + 1.0
        day = (own + all_of_it / all_of_it.sum()) @ _NEAR
        return np.concatenate([day, day], axis=1)


class Histogram(Peer):
    """A person's own smoothed answer rate, shrunk to the population's at the person's level."""

    strength = 6.0

    def score(self, rows: Ints) -> Floats:
        """Own counts count fully where there are many, the population's where there are few."""
        everybody = self.population()
        sent, answered = self.sent[rows], self.answered[rows]
        # Weekends are a day of their own for the population, but a person has too few of them.
        both_days = near(sent + np.roll(sent, DAY, axis=1))
        both_answered = near(answered + np.roll(answered, DAY, axis=1))
        level = (answered.sum(axis=1) + 2.0) / (sent @ everybody + 2.0)
        prior = level[:, None] * everybody
        return np.asarray((self.strength * prior + both_answered) / (self.strength + both_days))


class BetaHierarchy(Peer):
    """A Beta posterior a person and hour, whose prior is fitted to how much people differ.

    Draws from it (Thompson), so it needs no uniform draws on top.
    """

    floor = 0.0

    def score(self, rows: Ints) -> Floats:
        """A draw from each posterior."""
        everybody = self.population()
        strength = self._strength(everybody)
        sent, answered = self.sent[rows], self.answered[rows]
        level = (answered.sum(axis=1) + 2.0) / (sent @ everybody + 2.0)
        prior = np.minimum(level[:, None] * everybody, 0.95)
        own_sent, own_answered = near(sent), near(answered)
        silent = strength * (1.0 - prior) + np.maximum(own_sent - own_answered, 0.0)
        return np.asarray(self.rng.beta(strength * prior + own_answered, silent))

    def _strength(self, everybody: Floats) -> float:
        """Moments: how much more cells vary than chance alone explains."""
        sent, expected = self.sent, self.sent * everybody
        variance = (expected * (1.0 - everybody)).sum() + 1.0
        excess = ((self.answered - expected) ** 2).sum() - variance
        spread = (sent * (sent - 1.0) * everybody * (1.0 - everybody)).sum() + 1e-9
        correlation = float(np.clip(excess / spread, 0.01, 0.5))
        return 1.0 / correlation - 1.0


class PersonalThompson(Peer):
    """A Beta posterior for each person and hour, nothing shared."""

    floor = 0.0

    def score(self, rows: Ints) -> Floats:
        """A draw from each posterior."""
        sent, answered = self.sent[rows], self.answered[rows]
        return np.asarray(self.rng.beta(1.0 + answered, 1.0 + np.maximum(sent - answered, 0.0)))
