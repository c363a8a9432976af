"""The delivery-time model: additive counts of people, and a population that bends to them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

import numpy as np

from flows.model.choose import Bools, Slots, codes_of_keys, draw, luck_of, odds
from flows.model.exchange import (
    MODEL_VERSION,
    MODELS_READ,
    Population,
    arrays_of_curves,
    arrays_of_sums,
    curves_of_arrays,
    pack,
    sums_of_arrays,
    unpack,
)
from flows.model.kernel import Kernel
from flows.model.people import People, count
from flows.model.population import Curves, Sums, first_curves, next_curves
from flows.model.posterior import Counts, mean_answer, spread_of_answer, weights
from flows.model.shapes import BIN_OF_SLOT, BINS, HOURS, SLOTS, Floats
from flows.model.sweeping import BLOCK, Sweeper
from flows.model.tuning import Tuning
from flows.model.upgrade import of_earlier


@dataclass(frozen=True, kw_only=True, eq=False)
class Belief:
    """What is believed of one person.

    Shapes: `mean` and `spread` are 168 probabilities of an answer and their standard deviations,
    Monday 00:00 first, local; `shapes` is the weight of each rhythm and adds up to one.
    """

    mean: Floats
    spread: Floats
    shapes: Floats
    sent: float
    answered: float


class DeliveryTimeModel:
    """Learns when each person answers, and draws delivery slots with known odds.

    People are text ids; slots are 0 to 167, Monday 00:00 first, in the person's own zone.
    Learning happens in `learn`, when outcomes arrive, so no decision contains its own answer.

    State: `People.BYTES_PER_PERSON` a person and at most `people_max` people, beside about 1 MB
    for the population. The state depends on the order of what was learned, never on how it was
    cut into batches.
    Delivery: `learn` counts a repeat twice; the caller removes repeats.
    Source: the latent-class likelihood and its maximum are empirical Bayes after Robbins 1956; the
    views, the dictionary and the odds are described in docs/delivery-time.md.

    >>> model = DeliveryTimeModel(seed=7)
    >>> evening = np.arange(168) % 24 == 19
    >>> slots, propensities = model.decide(["usr_ada"], evening[None], keys=["ntf_1"])
    >>> bool(evening[slots[0]]), bool(0 < propensities[0] <= 1)
    (True, True)
    >>> model.learn(["usr_ada"], slots, np.array([True]))
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        source: str = "",
        people_max: int = 200_000,
        tuning: Tuning | None = None,
        kernel: Kernel | None = None,
    ) -> None:
        self.seed = seed
        self.source = source
        self.tuning = tuning or Tuning()
        self.curves: Curves = first_curves()
        self.learned = 0
        self._people = People(people_max)
        self._kernel = kernel
        self._sweeper = Sweeper(self.tuning, kernel)
        self._own = Sums.zero()
        self._taken = Sums.zero()
        self._taken_learned = 0
        self._foreign: dict[str, tuple[Sums, int]] = {}

    def __len__(self) -> int:
        return len(self._people)

    def __contains__(self, user: str) -> bool:
        return user in self._people.row_of

    @property
    def experience(self) -> int:
        """Outcomes learned here and by the shards whose sums were taken in."""
        return self.learned + sum(learned for _, learned in self._foreign.values())

    @property
    def people(self) -> People:
        """The counts of each person, for clusters of them; `clustered` is theirs to write."""
        return self._people

    def state_preference(self, users: Sequence[str], slots: Slots) -> None:
        """Take in the slots people asked for; the last word of each counts."""
        rows = self._people.claim(list(users))
        self._people.preference[rows] = _slots(slots) % HOURS

    def observe_activity(self, users: Sequence[str], slots: Slots) -> None:
        """Take in when people were active on their own."""
        rows = self._people.claim(list(users))
        bins = BIN_OF_SLOT[_slots(slots)]
        count(self._people.recent_activity, rows, bins, np.float32(1))

    def learn(self, users: Sequence[str], slots: Slots, responded: Bools) -> None:
        """Take in outcomes: who was sent to when, and whether they answered in the window."""
        names, bins = list(users), BIN_OF_SLOT[_slots(slots)]
        answered = np.asarray(responded, dtype=np.float32)
        start = 0
        while start < len(names):
            part = slice(start, start + self._sweeper.next_look - self.learned)
            rows = self._people.claim(names[part])
            count(self._people.recent_sent, rows, bins[part], np.float32(1))
            count(self._people.recent_answered, rows, bins[part], answered[part])
            self.learned += len(rows)
            start += len(rows)
            if self.learned >= self._sweeper.next_look:
                sums = self._sweeper.look(self._people, self.curves, learned=self.learned)
                if sums is not None:
                    self._take(sums)
                    self.step_population()

    def correct(self, users: Sequence[str], slots: Slots) -> None:
        """Turn outcomes that were learned as negative into positive: the answer came late."""
        rows = self._people.claim(list(users))
        count(self._people.recent_answered, rows, BIN_OF_SLOT[_slots(slots)], np.float32(1))

    def decide(
        self,
        users: Sequence[str],
        allowed: Bools,
        *,
        keys: Sequence[str] | Sequence[int] | Slots | None = None,
    ) -> tuple[Slots, Floats]:
        """Draw one allowed slot for each person, with its exact probability among the allowed.

        The draw is a function of state, seed, person and key, so a replay decides the same.

        Shapes: allowed (n, 168), at least one a row; slots and propensities (n,).
        State: reads only.
        Errors: ValueError where nothing is allowed.
        """
        if not np.asarray(allowed).any(axis=1).all():
            message = "could not decide: found a row without an allowed slot; expected one or more"
            raise ValueError(message)
        chance = self.odds(users, allowed)
        codes = self._people.codes(users)
        decision = codes_of_keys(keys if keys is not None else [self.learned] * len(codes))
        return draw(chance, luck_of(self.seed, codes, decision))

    def odds(self, users: Sequence[str], allowed: Bools) -> Floats:
        """Probability with which `decide` would draw each slot. Shapes: (n, 168)."""
        value = self.predict(users, bonus=self.tuning.bonus)
        sharpness = self.tuning.sharpness * float(np.sqrt(self.experience + 1.0))
        return odds(value, allowed, sharpness=sharpness, floor=self.tuning.floor)

    def predict(self, users: Sequence[str], *, bonus: float = 0.0) -> Floats:
        """Expected probability of an answer in each slot. Shapes: (n, 168). State: reads only."""
        found = np.empty((len(users), BINS))
        for start in range(0, len(users), BLOCK):
            part = slice(start, start + BLOCK)
            weight, _ = weights(self._counts(users[part]), self.curves)
            mean = mean_answer(weight, self.curves)
            if bonus:
                mean += bonus * spread_of_answer(weight, self.curves, mean)
            found[part] = mean
        return found[:, BIN_OF_SLOT]

    def posterior(self, user: str) -> Belief:
        """What is believed of one person; of a stranger, what holds for anybody."""
        counts = self._counts([user])
        weight, by_shape = weights(counts, self.curves)
        mean = mean_answer(weight, self.curves)
        return Belief(
            mean=mean[0, BIN_OF_SLOT],
            spread=spread_of_answer(weight, self.curves, mean)[0, BIN_OF_SLOT],
            shapes=by_shape[:, 0].copy(),
            sent=float(counts.sent.sum()),
            answered=float(counts.answered.sum()),
        )

    def _counts(self, users: Sequence[str]) -> Counts:
        return Counts.of(self._people, self._people.find(users))

    def forget(self, user: str) -> bool:
        """Delete a person. Shapes: whether anything was known.

        The sums lose the person at the end of the next whole sweep; the curves keep the faint
        bend that the person gave them, which new steps wear off.
        """
        self._people.erased = True
        return self._people.forget(user)

    def fade(self, keep: float) -> None:
        """Forget a share of everybody's past, after an alarm that predictions come true no more.

        Units: `keep` is the share that stays, 0 to 1; the recent window stays whole.
        """
        for past in (self._people.sent, self._people.answered, self._people.activity):
            np.multiply(past, np.float32(keep), out=past)
        self._people.changed |= self._people.here

    def update_population(self) -> None:
        """Sweep over everybody now, and take one step; otherwise `learn` does so bit by bit."""
        self.sweep_now()
        self.step_population()

    def sweep_now(self) -> Population:
        """Sweep over everybody at the present curves, without a step, for shards in step."""
        self._take(self._sweeper.whole(self._people, self.curves, learned=self.learned))
        return self.population()

    def step_population(self) -> None:
        """Move the curves by the sums of the last sweep here and of the other shards."""
        total = self._own
        for name in sorted(self._foreign):
            total = total + self._foreign[name][0]
        self.curves = next_curves(self.curves, total)

    def _take(self, sums: Sums) -> None:
        sums.changes += self._own.changes
        self._own = sums

    def population(self) -> Population:
        """The sums of this shard's last sweep, to replace what it published before."""
        return Population(
            source=self.source, sums=self._own, curves=self.curves, learned=self.learned
        )

    def take_delta(self) -> Population:
        """What changed in the sums since the last call. State: remembers what was taken."""
        delta = replace(
            self.population(),
            sums=self._own - self._taken,
            learned=self.learned - self._taken_learned,
            is_delta=True,
        )
        self._taken, self._taken_learned = self._own, self.learned
        return delta

    def merge_population(self, population: Population) -> None:
        """Take in what another shard published.

        A model that has seen nothing takes the curves as they are, and so starts warm.
        Delivery: absolute sums are safe to repeat, deltas are not.
        """
        sums, learned = population.sums, population.learned
        if population.is_delta and population.source in self._foreign:
            before, before_learned = self._foreign[population.source]
            sums, learned = before + sums, before_learned + learned
        self._foreign[population.source] = (sums, learned)
        if self.learned == 0 and population.curves.step > self.curves.step:
            self.curves = population.curves

    def merge(self, other: Self) -> None:
        """Take in everything another shard learned, as if it had been learned here.

        Counts and sums add up exactly; curves that differ are averaged by what each learned.
        """
        theirs = other._people
        names = sorted(theirs.row_of)
        here = self._people.claim(names)
        there = theirs.find(names)
        for name, _, _ in People.COLUMNS:
            getattr(self._people, name)[here] += getattr(theirs, name)[there]
        stated = theirs.preference[there] >= 0
        self._people.preference[here[stated]] = theirs.preference[there[stated]]
        mine = self.learned / max(1, self.learned + other.learned)
        if other.curves.step:
            self.curves = _between(self.curves, other.curves, mine)
        self._own = self._own + other._own
        self._foreign.pop(other.source, None)
        self.learned += other.learned
        self._sweeper.restart(self.learned)

    def state_hash(self) -> str:
        """A digest of everything that decides; equal after a replay of the same events."""
        return hashlib.blake2b(self.dump(), digest_size=16).hexdigest()

    def dump(self) -> bytes:
        """The whole state as versioned bytes."""
        rows = np.flatnonzero(self._people.here)
        people = {f"people.{name}": getattr(self._people, name)[rows] for name in People.arrays()}
        meta, arrays = self._standing()
        meta |= {"people_max": self._people.people_max, "slab": self._people.slab()}
        arrays |= people | {"people.rows": rows}
        return pack("delivery-time", meta, arrays, version=MODEL_VERSION)

    @classmethod
    def load(cls, data: bytes, *, kernel: Kernel | None = None) -> Self:
        """Read what `dump` wrote, of this version or one before, with a kernel or without.

        Errors: `UnreadableStateError`.
        """
        version, meta, arrays = unpack("delivery-time", data, versions=MODELS_READ)
        meta, arrays = of_earlier(version, meta, arrays)
        model = cls(people_max=meta["people_max"], kernel=kernel)
        model._people.restore(
            meta["slab"],
            arrays["people.rows"],
            {name: arrays[f"people.{name}"] for name in People.arrays()},
        )
        model._stand(meta, arrays)
        return model

    def dump_standing(self) -> bytes:
        """Everything but people, as versioned bytes of about 250 kB."""
        return pack("standing", *self._standing(), version=MODEL_VERSION, effort=0)

    def load_standing(self, data: bytes) -> None:
        """Take back what `dump_standing` gave. Errors: `UnreadableStateError`."""
        _, meta, arrays = unpack("standing", data, versions=(MODEL_VERSION,))
        self._stand(meta, arrays)

    def _standing(self) -> tuple[dict[str, Any], dict[str, Any]]:
        arrays = arrays_of_curves(self.curves)
        arrays |= arrays_of_sums(self._own, "own.") | arrays_of_sums(self._taken, "taken.")
        arrays |= arrays_of_sums(self._sweeper.partial, "partial.")
        for source, (sums, _) in self._foreign.items():
            arrays |= arrays_of_sums(sums, f"foreign.{source}.")
        meta: dict[str, Any] = {
            "seed": self.seed,
            "source": self.source,
            "tuning": asdict(self.tuning),
            "learned": self.learned,
            "taken_learned": self._taken_learned,
            "next_look": self._sweeper.next_look,
            "place": self._sweeper.place,
            "foreign": {source: learned for source, (_, learned) in self._foreign.items()},
        }
        return meta, arrays

    def _stand(self, meta: dict[str, Any], arrays: dict[str, Any]) -> None:
        self.seed, self.source = meta["seed"], meta["source"]
        self.tuning = Tuning(**meta["tuning"])
        self.learned = meta["learned"]
        self.curves = curves_of_arrays(arrays)
        self._own = sums_of_arrays(arrays, "own.")
        self._taken = sums_of_arrays(arrays, "taken.")
        self._taken_learned = meta["taken_learned"]
        self._sweeper = Sweeper(self.tuning, self._kernel)
        self._sweeper.next_look, self._sweeper.place = meta["next_look"], meta["place"]
        self._sweeper.partial = sums_of_arrays(arrays, "partial.")
        self._foreign = {
            source: (sums_of_arrays(arrays, f"foreign.{source}."), learned)
            for source, learned in meta["foreign"].items()
        }


def _slots(slots: Slots) -> Slots:
    values = np.asarray(slots, dtype=np.int64)
    if len(values) and not (values.min() >= 0 and values.max() < SLOTS):
        message = "could not use slots: found one outside the week; expected 0 to 167"
        raise ValueError(message)
    return values


def _between(mine: Curves, theirs: Curves, share: float) -> Curves:
    """Curves on the way from theirs to mine."""
    if mine.step == theirs.step and np.array_equal(mine.curve, theirs.curve):
        return mine

    def mixed(one: Floats, other: Floats) -> Floats:
        return share * one + (1.0 - share) * other

    return Curves(
        curve=mixed(mine.curve, theirs.curve),
        share=mixed(mine.share, theirs.share),
        log_activity=mixed(mine.log_activity, theirs.log_activity),
        log_preference=mixed(mine.log_preference, theirs.log_preference),
        activity_weight=share * mine.activity_weight + (1.0 - share) * theirs.activity_weight,
        hazard=share * mine.hazard + (1.0 - share) * theirs.hazard,
        step=max(mine.step, theirs.step),
    )
