"""Play a policy in a simulated world, one round of notifications a day, and book its regret."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from flows.timing_bench.worlds import (
    DAY,
    FIRST_HOUR,
    LAST_HOUR,
    WEEK,
    Crowd,
    Floats,
    Ints,
    World,
    make_crowd,
)

Bools = NDArray[np.bool_]

# A day is played in blocks, so that outcomes of the morning are known in the evening. An answer is
# known one or two blocks later, a negative when its window of two blocks has passed; some answers
# come after that, and take their negative back.
BLOCKS: Final = 10
QUICK_SHARE: Final = 0.7
LATE_SHARE: Final = 0.08
WINDOW_BLOCKS: Final = 2
LATE_BLOCKS: Final = 15
WINDOWS_H: Final = (6, 12, 24)


class Policy(Protocol):
    """What plays: decides slots for a block of people, and learns what came of it."""

    def state_preference(self, users: list[str], slots: Ints) -> None:
        """Take in the slots that people asked for."""

    def observe_activity(self, users: list[str], slots: Ints) -> None:
        """Take in what people did on their own."""

    def decide(self, users: list[str], allowed: Bools, *, keys: Ints) -> tuple[Ints, Floats]:
        """Draw one allowed slot for each person, and say with which probability."""

    def learn(self, users: list[str], slots: Ints, responded: Bools) -> None:
        """Take in the outcomes."""

    def correct(self, users: list[str], slots: Ints) -> None:
        """Turn outcomes that were learned as negative into positive ones."""


@runtime_checkable
class HearsClocks(Protocol):
    """A policy that must be told when the clocks change; one that lives in local time need not."""

    def jump(self) -> None:
        """All clocks have gone forward by an hour."""


@dataclass(frozen=True, kw_only=True)
class Played:
    """What one run came to. Shapes: one number a block."""

    regret: Floats
    regret_of_random: Floats
    sent: Ints

    def share_at(self, sends: float, people: int) -> float:
        """Cumulative regret as a share of random's, at so many sends a person on average."""
        due = int(np.searchsorted(self.sent.cumsum(), sends * people - 1e-9)) + 1
        due = min(due, len(self.sent))
        of_random = float(self.regret_of_random[:due].sum())
        return float(self.regret[:due].sum()) / of_random if of_random > 0 else float("nan")


def draw_allowed(n: int, day: int, rng: np.random.Generator) -> Bools:
    """What deadlines and quiet hours leave of the week, for requests of one day.

    Shapes: (n, 168); at least one slot a row, at most 24 hours ahead.
    """
    start = rng.integers(0, DAY, n)
    window = np.array(WINDOWS_H)[rng.integers(0, len(WINDOWS_H), n)]
    ahead = np.arange(DAY)
    hour = (start[:, None] + ahead) % DAY
    good = (ahead < window[:, None]) & (hour >= FIRST_HOUR) & (hour <= LAST_HOUR)
    # A window wholly inside quiet hours: the request waits for the morning and takes three hours.
    none = ~good.any(axis=1)
    waking = (hour >= FIRST_HOUR) & (hour < FIRST_HOUR + 3)
    good[none] = waking[none]
    slot = (day % 7 * DAY + start[:, None] + ahead) % WEEK
    allowed = np.zeros((n, WEEK), dtype=np.bool_)
    allowed[np.arange(n)[:, None], slot] = good
    return allowed


def play(
    policy: Policy, world: World, *, people: int, sends: int, seed: int, crowd: Crowd | None = None
) -> Played:
    """Run one policy through one world. State: the policy's; the world is drawn from the seed."""
    crowd = crowd or make_crowd(world, people=people, seed=seed)
    rng = np.random.default_rng([seed, 2])
    names = np.array([f"usr_{seed}_{number}" for number in range(people)])
    rounds = sends if not world.joins_late else int(sends / (1 - 0.45 * world.joins_late))
    books = _Books(policy, names)
    entered = np.zeros(people, dtype=np.bool_)
    for day in range(rounds):
        later = day >= rounds // 2
        if world.hour_jump and day == rounds // 2 and isinstance(policy, HearsClocks):
            policy.jump()
        answer = crowd.answer_later if later else crowd.answer
        here = crowd.joins * rounds <= day
        _welcome(policy, names, crowd, here & ~entered)
        entered |= here
        _be_active(policy, names, crowd, here, rng, day=day, later=later)
        for part in np.array_split(rng.permutation(_addressed(crowd, here, rng)), BLOCKS):
            books.play_block(part, answer[part], draw_allowed(len(part), day, rng), rng)
    return books.played()


class _Books:
    """Decides block by block, hands outcomes over when they are due, and adds up the regret."""

    def __init__(self, policy: Policy, names: NDArray[np.str_]) -> None:
        self._policy, self._names = policy, names
        self._block = 0
        self._decided = 0
        self._due: dict[int, list[tuple[Ints, Ints, Bools | None]]] = {}
        self._sums: list[tuple[float, float, int]] = []

    def play_block(
        self, who: Ints, chance: Floats, allowed: Bools, rng: np.random.Generator
    ) -> None:
        """One block: first what is due, then decisions, then the world's answers."""
        for people, slots, responded in self._due.pop(self._block, []):
            if responded is None:
                self._policy.correct(self._names[people].tolist(), slots)
            else:
                self._policy.learn(self._names[people].tolist(), slots, responded)
        keys = self._decided + np.arange(len(who))
        slots, _ = self._policy.decide(self._names[who].tolist(), allowed, keys=keys)
        got = chance[np.arange(len(who)), slots]
        best = np.where(allowed, chance, 0.0).max(axis=1)
        mean = (chance * allowed).sum(axis=1) / allowed.sum(axis=1)
        self._sums.append((float((best - got).sum()), float((best - mean).sum()), len(who)))
        responded = rng.random(len(who)) < got
        late = responded & (rng.random(len(who)) < LATE_SHARE)
        quick = responded & ~late & (rng.random(len(who)) < QUICK_SHARE)
        seen = responded & ~late
        self._put(1, who[quick], slots[quick], seen[quick])
        self._put(WINDOW_BLOCKS, who[~quick], slots[~quick], seen[~quick])
        self._put(LATE_BLOCKS, who[late], slots[late], None)
        self._block += 1
        self._decided += len(who)

    def _put(self, after: int, who: Ints, slots: Ints, responded: Bools | None) -> None:
        if len(who):
            self._due.setdefault(self._block + after, []).append((who, slots, responded))

    def played(self) -> Played:
        regret, of_random, sent = zip(*self._sums, strict=True)
        return Played(
            regret=np.array(regret), regret_of_random=np.array(of_random), sent=np.array(sent)
        )


def _welcome(policy: Policy, names: NDArray[np.str_], crowd: Crowd, new: Bools) -> None:
    stated = np.flatnonzero(new & (crowd.preference >= 0))
    if len(stated):
        policy.state_preference(names[stated].tolist(), crowd.preference[stated])


def _addressed(crowd: Crowd, here: Bools, rng: np.random.Generator) -> Ints:
    """Who gets a notification this round; somebody sent to often gets several."""
    times = np.ones(len(here), dtype=np.int64)
    if crowd.rate.min() != crowd.rate.max():
        times = rng.poisson(crowd.rate)
    return np.repeat(np.arange(len(here)), np.where(here, times, 0))


def _be_active(
    policy: Policy,
    names: NDArray[np.str_],
    crowd: Crowd,
    here: Bools,
    rng: np.random.Generator,
    *,
    day: int,
    later: bool,
) -> None:
    """Everybody's own activity of the day before, as seen before the round."""
    shares = (crowd.activity_later if later else crowd.activity).reshape(-1, 7, DAY)[:, day % 7]
    count = rng.poisson(crowd.sessions * here)
    who = np.repeat(np.arange(len(here)), count)
    cut = shares.cumsum(axis=1)
    hour = (rng.random((len(who), 1)) * cut[who, -1:] > cut[who]).sum(axis=1)
    policy.observe_activity(names[who].tolist(), day % 7 * DAY + hour)
