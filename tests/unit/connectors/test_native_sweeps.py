"""The native library's sweeps: numpy's sums, whoever is looked at together, and models alike."""

from __future__ import annotations

import importlib.util
import random
from collections.abc import Callable
from copy import deepcopy
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from connectors.native import build
from flows.model import DeliveryTimeModel
from flows.model.kernel import Kernel, sweep_by
from flows.model.people import People
from flows.model.population import Sums
from flows.model.shapes import SLOTS, Floats
from flows.model.tuning import Tuning
from flows.timing.flow import make_kinds
from flows.timing.learners import USUAL as USUAL_MODEL
from flows.timing.learners import LatentClass, find_kernel
from tests.messages import settings
from tests.native_sweeps import (
    DIGITS,
    USUAL,
    at_odds,
    both,
    compare,
    compare_drawn,
    crowd,
    curves,
    differences,
    rows_of,
    torn,
)


def usual(many: int, seed: int = 0) -> People:
    """People of whom about half are looked at."""
    return crowd(many, seed=seed, sends=25.0, recent=6.0, active=12.0)


CROWDS: dict[str, Callable[[], People]] = {
    "strangers": lambda: crowd(40),
    "one person": lambda: usual(1),
    "activity alone": lambda: crowd(40, active=9.0),
    "few sends": lambda: crowd(256, recent=1.0),
    "new people": lambda: crowd(256, recent=9.0),
    "many sends": lambda: crowd(256, sends=400.0, recent=3.0, active=200.0),
    "two windows": lambda: usual(256),
    "far apart": torn,
    "at odds": at_odds,
}


TUNINGS: dict[str, Tuning] = {
    "usual": USUAL,
    "never": Tuning(window=1_000_000),
    "fading": Tuning(keep=0.7, window=3),
}


@pytest.mark.parametrize("name", CROWDS)
@pytest.mark.parametrize("tuning", TUNINGS)
def test_a_sweep_does_what_numpy_does(native: Any, name: str, tuning: str) -> None:
    compare(native.sweep, CROWDS[name](), curves(3), TUNINGS[tuning])


def test_crowds_that_are_drawn_come_to_the_same(native: Any) -> None:
    for seed in range(60):
        compare_drawn(native.sweep, random.Random(seed))


def found(kernel: Kernel, people: People, rows: Any) -> Floats:
    """What a sweep finds of each person, with no memory of it."""
    kept = np.zeros(0)

    def spy(*given: Any) -> None:
        nonlocal kept
        kernel(*given)
        kept = given[-1]

    sweep_by(spy, deepcopy(people), rows, curves(5), Sums.zero(), tuning=USUAL)
    return kept


def test_what_a_person_comes_to_depends_on_nobody_beside(native: Any) -> None:
    """To the bit: otherwise shards would not add up to one learner."""
    people = usual(100, seed=5)
    rows, parts = rows_of(people), [0, 1, 3]  # a chance of change is taken from all together
    together = found(native.sweep, people, rows)[:, parts]
    turned = found(native.sweep, people, rows[::-1].copy())[:, parts]
    alone = [found(native.sweep, people, rows[n : n + 1])[:, parts] for n in range(len(rows))]

    assert {0.0, 2.0} <= set(together[:, 2].tolist())
    assert np.array_equal(together[::-1], turned)
    assert np.array_equal(together, np.concatenate(alone))


def test_nobody_adds_nothing(native: Any) -> None:
    sums = Sums.zero()

    sweep_by(native.sweep, crowd(0), np.zeros(0, np.int64), curves(), sums, tuning=USUAL)

    assert not any(np.any(getattr(sums, field.name)) for field in fields(Sums))


def arguments() -> list[Any]:
    """What a kernel is given, for one person."""
    kept: list[Any] = []

    def keep(*given: Any) -> None:
        kept.extend(given)

    rows = np.zeros(1, np.int64)
    sweep_by(keep, usual(1), rows, curves(), Sums.zero(), tuning=USUAL)
    return kept


def swapped(place: int, part: int, make: Callable[[Any], Any]) -> list[Any]:
    """The same with one array that is another."""
    given = arguments()
    arrays = list(given[place])
    arrays[part] = make(arrays[part])
    given[place] = tuple(arrays)
    return given


def replaced(place: int, value: Any) -> list[Any]:
    given = arguments()
    given[place] = value
    return given


def read_only(values: Any) -> Any:
    values.flags.writeable = False
    return values


WRONG: dict[str, Callable[[], list[Any]]] = {
    "a table too small": lambda: swapped(0, 0, lambda table: table[:-1]),
    "a table of singles": lambda: swapped(0, 2, lambda table: table.astype(np.float32)),
    "a table not in one piece": lambda: swapped(0, 3, np.asfortranarray),
    "a table too few": lambda: replaced(0, arguments()[0][:-1]),
    "shares too few": lambda: swapped(2, 0, lambda shares: shares[:-1]),
    "shares without their chances": lambda: replaced(2, arguments()[2][:-1]),
    "counts of other people": lambda: swapped(3, 4, lambda count: count[:-1]),
    "counts in double precision": lambda: swapped(3, 0, lambda count: count.astype(np.float64)),
    "counts that may not be written": lambda: swapped(3, 3, read_only),
    "preferences of another kind": lambda: swapped(3, 6, lambda hours: hours.astype(np.int64)),
    "preferences of other people": lambda: swapped(3, 6, lambda hours: hours[:-1]),
    "changes of other people": lambda: swapped(3, 7, lambda changed: changed[:-1]),
    "counts too few": lambda: replaced(3, arguments()[3][:-1]),
    "a row before the first": lambda: replaced(4, np.array([-1])),
    "a row behind the last": lambda: replaced(4, np.array([len(arguments()[3][7])])),
    "a row far away": lambda: replaced(4, np.array([1 << 60])),
    "rows of another kind": lambda: replaced(4, np.zeros(1, np.int32)),
    "sums that may not be written": lambda: swapped(5, 1, read_only),
    "a sum too small": lambda: swapped(5, 7, lambda scores: scores[:-1]),
    "a sum too few": lambda: replaced(5, arguments()[5][:-1]),
    "no room for what is found": lambda: replaced(6, np.zeros((0, 4))),
    "room in single precision": lambda: replaced(6, np.zeros((1, 4), np.float32)),
}


@pytest.mark.parametrize("name", WRONG)
def test_other_arrays_are_refused_and_nothing_is_written(native: Any, name: str) -> None:
    given = WRONG[name]()

    with pytest.raises(ValueError, match="expected"):
        native.sweep(*given)
    assert not any(np.any(sums) for sums in given[5])


def test_what_is_no_array_is_refused(native: Any) -> None:
    for wrong in (replaced(0, [1]), replaced(4, "rows"), replaced(1, (1.0,)), arguments()[:-1]):
        with pytest.raises((TypeError, ValueError)):
            native.sweep(*wrong)


def test_tables_that_changed_are_read_again(native: Any) -> None:
    """Those of the last call are kept in the library; these are of a step later."""
    for seed in (1, 2, 1):
        compare(native.sweep, usual(40), curves(seed))


@pytest.mark.parametrize("lanes", [2, 4])
def test_less_able_processors_come_to_the_same(native: Any, tmp_path: Path, lanes: int) -> None:
    options = ("-O2", f"-DSWEEP_LANES_MAX={lanes}")
    path = build.build(tmp_path / "_native.abi3.so", options)
    spec = importlib.util.spec_from_file_location("connectors.native._native", path)
    assert spec is not None
    assert spec.loader is not None
    other = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(other)

    for seed in range(20):
        compare_drawn(other.sweep, random.Random(seed))
    people, now = usual(50, seed=5), curves(5)
    _, (best, _) = both(native.sweep, people, now)
    _, (plain, _) = both(other.sweep, people, now)
    assert max(differences(best, plain).values()) < DIGITS


USERS = [f"usr_{number}" for number in range(300)]


def teach(model: DeliveryTimeModel, *, first: int = 0, many: int = 6_000) -> DeliveryTimeModel:
    """Outcomes of people who answer in the evening or in the morning, and what they do else."""
    for seed in range(first, first + many, 500):
        rng = np.random.default_rng(seed)
        who, slots = rng.integers(0, len(USERS), 500), rng.integers(0, SLOTS, 500)
        names = [USERS[person] for person in who]
        liked = np.where(who % 2, abs(slots % 24 - 19) < 3, abs(slots % 24 - 9) < 3)
        model.observe_activity(names[:50], (who[:50] % 2 * 10 + 9).astype(np.int64))
        model.state_preference(names[:9], slots[:9])
        model.learn(names, slots, rng.random(500) < np.where(liked, 0.6, 0.1))
    return model


def near(one: DeliveryTimeModel, other: DeliveryTimeModel, digits: float) -> None:
    assert one.curves.step == other.curves.step
    for name in ("curve", "share", "log_activity", "log_preference"):
        apart = np.abs(getattr(one.curves, name) - getattr(other.curves, name)).max()
        assert apart < digits, (name, apart)


def decided(model: DeliveryTimeModel) -> list[int]:
    drawn, _ = model.decide(USERS, np.ones((len(USERS), SLOTS), bool), keys=range(len(USERS)))
    return [int(slot) for slot in drawn]


def test_a_model_learns_and_decides_the_same_with_a_kernel(native: Any) -> None:
    pure = teach(DeliveryTimeModel(seed=3))
    quick = teach(DeliveryTimeModel(seed=3, kernel=native.sweep))

    assert pure.curves.step > 10
    assert pure.curves.hazard == pytest.approx(quick.curves.hazard, rel=1e-5)
    near(pure, quick, 1e-5)
    assert decided(pure) == decided(quick)


def test_a_model_of_either_level_goes_on_at_the_other(native: Any) -> None:
    """A dump tells nothing of the level, and each level reads those of both."""
    whole = teach(DeliveryTimeModel(seed=3))
    for before, after in ((None, native.sweep), (native.sweep, None)):
        half = teach(DeliveryTimeModel(seed=3, kernel=before), many=3_000)
        again = DeliveryTimeModel.load(half.dump(), kernel=after)
        stood = DeliveryTimeModel(seed=3, kernel=after)
        stood.load_standing(half.dump_standing())

        assert half.state_hash() == again.state_hash()
        assert half.dump_standing() == stood.dump_standing()
        near(whole, teach(again, first=3_000, many=3_000), 1e-5)


def test_shards_with_a_kernel_add_up_to_one_learner(native: Any) -> None:
    rng = np.random.default_rng(4)
    who, slots = rng.integers(0, len(USERS), 3_000), rng.integers(0, SLOTS, 3_000)
    responded = rng.random(3_000) < 0.3
    big, left, right = (DeliveryTimeModel(source=name, kernel=native.sweep) for name in "blr")
    for model, mine in ((big, who >= 0), (left, who % 3 == 0), (right, who % 3 > 0)):
        model._sweeper.next_look = 10**9  # steps are taken together below
        model.learn([USERS[person] for person in who[mine]], slots[mine], responded[mine])
    for _ in range(4):
        big.update_population()
        sums = [model.sweep_now() for model in (left, right)]
        left.merge_population(sums[1])
        right.merge_population(sums[0])
        left.step_population()
        right.step_population()

    near(big, left, 1e-9)
    near(big, right, 1e-9)


def test_a_flow_makes_learners_of_the_level_that_reads_kafka(native: Any) -> None:
    for level, kernel in (("pure", None), ("native", native.sweep)):
        kafka = settings().kafka.model_copy(update={"level": level})
        kind = make_kinds(settings().model_copy(update={"kafka": kafka}))[USUAL_MODEL]

        assert vars(kind.make(seed=1, lane=0, people_max=10))["_kernel"] is kernel


def test_lanes_learn_at_the_level_that_reads_kafka(native: Any) -> None:
    assert find_kernel("pure") is None
    assert find_kernel("native") is native.sweep
    swept = 0

    def spy(*given: Any) -> None:
        nonlocal swept
        swept += 1
        native.sweep(*given)

    kind = LatentClass(spy)
    learner = kind.make(seed=1, lane=0, people_max=1_000)
    users, slots = USERS[:200], np.arange(200) % SLOTS
    learner.learn(users, slots, slots % 2 == 0)
    first = swept
    kind.load(learner.dump()).learn(users, slots, slots % 2 == 0)

    assert 0 < first < swept
