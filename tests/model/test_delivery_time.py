"""The delivery-time model: odds, state, merging, forgetting."""

from __future__ import annotations

import numpy as np
import pytest

from flows.model import DeliveryTimeModel
from flows.model.exchange import Population, UnreadableStateError

PEOPLE = [f"usr_{name}" for name in ("ada", "bo", "cleo", "dev", "eli", "fay")]


def waking(n: int) -> np.ndarray:
    hour = np.arange(168) % 24
    return np.repeat(((hour >= 7) & (hour <= 21))[None], n, axis=0)


def outcomes(n: int, seed: int) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Invented people of whom each answers around one hour of the day."""
    rng = np.random.default_rng(seed)
    number = rng.integers(0, 300, n)
    slots = rng.integers(0, 7, n) * 24 + rng.integers(7, 22, n)
    near = np.abs(slots % 24 - (8 + number % 3 * 5)) <= 2
    responded = rng.random(n) < np.where(near, 0.5, 0.05)
    return [f"usr_{one}" for one in number], slots, responded


def taught(n: int = 6_000, *, seed: int = 1) -> DeliveryTimeModel:
    model = DeliveryTimeModel(seed=3)
    model.learn(*outcomes(n, seed))
    return model


def test_a_decision_takes_an_allowed_slot_and_tells_its_exact_odds() -> None:
    model = taught()
    rng = np.random.default_rng(5)
    allowed = waking(6) & (rng.random((6, 168)) < 0.3)

    slots, propensities = model.decide(PEOPLE, allowed, keys=range(6))
    chance = model.odds(PEOPLE, allowed)

    assert allowed[np.arange(6), slots].all()
    assert np.allclose(1.0, chance.sum(axis=1), atol=1e-12)
    assert (chance[~allowed] == 0).all()
    assert (chance[allowed] > 0).all()
    assert np.array_equal(propensities, chance[np.arange(6), slots])


def test_draws_come_as_often_as_the_odds_say() -> None:
    model = DeliveryTimeModel(seed=3)
    model.learn(["usr_ada"] * 40, np.full(40, 19), np.arange(40) % 2 == 0)
    allowed = waking(1)
    n = 20_000

    slots, _ = model.decide(["usr_ada"] * n, np.repeat(allowed, n, axis=0), keys=range(n))

    chance = model.odds(["usr_ada"], allowed)[0]
    off = np.bincount(slots, minlength=168) / n - chance
    assert (np.abs(off) < 5 * np.sqrt(chance / n) + 1e-9).all()


def test_the_same_state_seed_person_and_key_draw_the_same() -> None:
    one, other = taught(), taught()
    keys = ["ntf_1", "ntf_2", "ntf_3", "ntf_4", "ntf_5", "ntf_6"]

    first = one.decide(PEOPLE, waking(6), keys=keys)
    turned = other.decide(PEOPLE[::-1], waking(6), keys=keys[::-1])

    assert np.array_equal(first[0], turned[0][::-1])

    blank = DeliveryTimeModel(seed=3)
    drawn = blank.decide(PEOPLE, waking(6), keys=keys)[0].tolist()
    assert drawn == DeliveryTimeModel(seed=3).decide(PEOPLE, waking(6), keys=keys)[0].tolist()
    assert drawn != blank.decide(PEOPLE, waking(6), keys=range(6))[0].tolist()
    assert drawn != DeliveryTimeModel(seed=4).decide(PEOPLE, waking(6), keys=keys)[0].tolist()


def test_a_large_block_is_decided_as_small_ones_are() -> None:
    """Known people and strangers, in blocks that do not end where those of the model do."""
    model = taught()
    names = [f"usr_{number}" for number in range(700)]
    slots, chance = model.decide(names, waking(700), keys=range(700))
    parts = [slice(start, start + 90) for start in range(0, 700, 90)]
    small = [model.decide(names[part], waking(700)[part], keys=range(700)[part]) for part in parts]

    assert "usr_0" in model
    assert "usr_699" not in model
    assert slots.tolist() == np.concatenate([found for found, _ in small]).tolist()
    assert np.allclose(chance, np.concatenate([found for _, found in small]), rtol=0, atol=1e-12)


def test_luck_depends_on_the_id_alone_not_on_being_known() -> None:
    stranger, known = DeliveryTimeModel(seed=3), DeliveryTimeModel(seed=3)
    known.observe_activity(PEOPLE, np.full(6, 19))
    known.forget(PEOPLE[0])
    names = [*PEOPLE, "usr_stranger"]

    assert stranger.people.codes(names).tolist() == known.people.codes(names).tolist()
    assert len(set(names)) == len(set(known.people.codes(names).tolist()))


def test_nothing_allowed_is_an_error() -> None:
    with pytest.raises(ValueError, match="without an allowed slot"):
        DeliveryTimeModel().decide(PEOPLE[:1], np.zeros((1, 168), dtype=bool))


def test_a_slot_outside_the_week_is_an_error() -> None:
    with pytest.raises(ValueError, match="outside the week"):
        DeliveryTimeModel().learn(PEOPLE[:1], np.array([168]), np.array([True]))


def test_learning_in_any_batches_gives_the_same_state() -> None:
    users, slots, responded = outcomes(3_000, 1)
    whole, bits = DeliveryTimeModel(), DeliveryTimeModel()
    whole.learn(users, slots, responded)
    for start in range(0, 3_000, 77):
        part = slice(start, start + 77)
        bits.learn(users[part], slots[part], responded[part])

    assert whole.curves.step > 3
    assert whole.state_hash() == bits.state_hash()


def test_a_snapshot_goes_on_as_if_nothing_had_happened() -> None:
    model = taught(4_000)
    model.state_preference(["usr_1"], np.array([19]))
    model.forget("usr_2")
    again = DeliveryTimeModel.load(model.dump())
    assert model.state_hash() == again.state_hash()

    for one in (model, again):
        one.observe_activity(["usr_5", "usr_new"], np.array([20, 21]))
        one.learn(*outcomes(4_000, 2))

    assert model.state_hash() == again.state_hash()
    assert (
        model.decide(PEOPLE, waking(6), keys=range(6))[0].tolist()
        == again.decide(PEOPLE, waking(6), keys=range(6))[0].tolist()
    )


@pytest.mark.parametrize("data", [b"", b"something else", b"airside-model\x00damaged"])
def test_other_bytes_are_no_snapshot(data: bytes) -> None:
    with pytest.raises(UnreadableStateError):
        DeliveryTimeModel.load(data)


def test_a_population_is_no_model() -> None:
    with pytest.raises(UnreadableStateError, match="population of version 2"):
        DeliveryTimeModel.load(taught(500).population().dump())


def test_scoring_changes_nothing_and_results_are_copies() -> None:
    model = taught(2_000)
    before = model.state_hash()

    model.predict(PEOPLE)[:] = 0
    belief = model.posterior("usr_1")
    belief.mean[:] = 0
    belief.shapes[:] = 0
    model.decide(PEOPLE, waking(6), keys=range(6))

    assert before == model.state_hash()


def test_merged_shards_equal_one_big_learner() -> None:
    users, slots, responded = outcomes(3_000, 4)
    big, left, right = (DeliveryTimeModel(source=name) for name in ("", "l", "r"))
    left_side = np.array([int(user[4:]) % 2 == 0 for user in users])
    for model, mine in ((big, left_side | True), (left, left_side), (right, ~left_side)):
        names = [user for user, is_mine in zip(users, mine, strict=True) if is_mine]
        model._sweeper.next_look = 10**9  # steps are taken together below
        model.learn(names, slots[mine], responded[mine])

    left.merge(right)
    for _ in range(4):
        big.update_population()
        left.update_population()

    names = [f"usr_{number}" for number in range(300)]
    assert np.allclose(big.predict(names), left.predict(names), rtol=0, atol=1e-9)
    assert big.learned == left.learned


def test_shards_that_share_sums_equal_one_big_learner() -> None:
    users, slots, responded = outcomes(3_000, 4)
    big, left, right = (DeliveryTimeModel(source=name) for name in ("", "l", "r"))
    left_side = np.array([int(user[4:]) % 2 == 0 for user in users])
    for model, mine in ((big, left_side | True), (left, left_side), (right, ~left_side)):
        names = [user for user, is_mine in zip(users, mine, strict=True) if is_mine]
        model._sweeper.next_look = 10**9
        model.learn(names, slots[mine], responded[mine])
    for _ in range(4):
        big.update_population()
        sums = [model.sweep_now() for model in (left, right)]
        left.merge_population(Population.load(sums[1].dump()))
        right.merge_population(Population.load(sums[0].dump()))
        left.step_population()
        right.step_population()

    assert np.allclose(big.curves.curve, left.curves.curve, rtol=0, atol=1e-9)
    assert np.array_equal(left.curves.curve, right.curves.curve) or np.allclose(
        left.curves.curve, right.curves.curve, rtol=0, atol=1e-9
    )
    names = [user for user, is_mine in zip(users, left_side, strict=True) if is_mine]
    assert np.allclose(big.predict(names), left.predict(names), rtol=0, atol=1e-9)


def test_deltas_add_up_to_the_absolute_sums() -> None:
    shard, reader = DeliveryTimeModel(source="a"), DeliveryTimeModel(source="b")
    for seed in range(3):
        shard.learn(*outcomes(2_000, seed))
        reader.merge_population(shard.take_delta())

    sums, learned = reader._foreign["a"]
    assert shard.learned == learned
    assert np.allclose(shard.population().sums.expected, sums.expected, rtol=0, atol=1e-9)


def test_a_new_worker_starts_warm() -> None:
    shard, new = taught(), DeliveryTimeModel(source="new")
    new.merge_population(Population.load(shard.population().dump()))

    assert np.array_equal(shard.predict(["usr_stranger"]), new.predict(["usr_stranger"]))
    assert shard.experience == new.experience


def test_a_late_answer_takes_its_negative_back() -> None:
    late, quick = DeliveryTimeModel(), DeliveryTimeModel()
    late.learn(["usr_ada"] * 2, np.array([19, 43]), np.array([False, False]))
    late.correct(["usr_ada"], np.array([19]))
    quick.learn(["usr_ada"] * 2, np.array([19, 43]), np.array([True, False]))

    assert np.array_equal(quick.predict(["usr_ada"]), late.predict(["usr_ada"]))


def test_a_forgotten_person_is_a_stranger_and_leaves_the_sums() -> None:
    model = taught()
    people = model.population().sums.people[0]
    assert model.forget("usr_1")
    model.update_population()

    assert not model.forget("usr_1")
    assert np.array_equal(model.predict(["usr_nobody"]), model.predict(["usr_1"]))
    assert people - 1 == model.population().sums.people[0]
    assert "usr_1" not in model._people.ids


def test_memory_is_bounded_and_whoever_was_quiet_longest_goes() -> None:
    model = DeliveryTimeModel(people_max=100)
    for number in range(500):
        model.learn([f"usr_{number}"], np.array([19]), np.array([True]))

    assert len(model) <= 100
    assert len(model._people.sent) <= 1_024
    assert "usr_499" in model
    assert "usr_0" not in model
