"""A model that is kept by its changes is, after any crash, to the bit the one that was saved."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.journal import Journals
from flows.model import DeliveryTimeModel
from flows.model.exchange import UnreadableStateError
from flows.model.shelf import Shelf
from flows.steps.keep import Kept
from flows.timing.clusters import LaneClusters

Act = Callable[[DeliveryTimeModel], object]

PEOPLE_MAX = 40
names = st.lists(st.integers(0, 60).map("usr_{}".format), min_size=1, max_size=20)
seeds = st.integers(0, 2**32 - 1)


def new_model() -> DeliveryTimeModel:
    return DeliveryTimeModel(seed=3, source="lane-0", people_max=PEOPLE_MAX)


def learn(users: list[str], seed: int, times: int) -> Act:
    def act(model: DeliveryTimeModel) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(times):
            size = len(users)
            model.learn(users, rng.integers(0, 168, size), rng.random(size) < 0.4)

    return act


def look_around(users: list[str], seed: int) -> Act:
    slots = np.random.default_rng(seed).integers(0, 168, len(users))
    return lambda model: model.observe_activity(users, slots)


def state(users: list[str], seed: int) -> Act:
    slots = np.random.default_rng(seed).integers(0, 24, len(users))
    return lambda model: model.state_preference(users, slots)


def correct(users: list[str], seed: int) -> Act:
    """Of some that were not answered: a late answer comes once."""
    slots = np.random.default_rng(seed).integers(0, 168, len(users))

    def act(model: DeliveryTimeModel) -> None:
        model.learn(users, slots, np.zeros(len(users), np.bool_))
        model.correct(users, slots)

    return act


def forget(users: list[str]) -> Act:
    return lambda model: [model.forget(user) for user in users]


def look_at_clusters(model: DeliveryTimeModel) -> None:
    LaneClusters(seed=1).look(model.people)


acts = st.one_of(
    st.builds(learn, names, seeds, st.integers(1, 30)),
    st.builds(look_around, names, seeds),
    st.builds(state, names, seeds),
    st.builds(correct, names, seeds),
    st.builds(forget, names),
    st.sampled_from(
        [
            lambda model: model.fade(0.5),
            DeliveryTimeModel.update_population,
            DeliveryTimeModel.take_delta,
            look_at_clusters,
        ]
    ),
)
epochs = st.lists(st.tuples(st.lists(acts, max_size=5), st.booleans()), min_size=1, max_size=5)


def kept(model: DeliveryTimeModel, folder: Path) -> Kept:
    part = Kept(Shelf(model))
    part.keep_in(Journals(folder).open)
    return part


@settings(max_examples=30)
@given(epochs)
def test_after_lost_epochs_a_kept_model_is_the_one_that_was_saved(
    tmp_path_factory: pytest.TempPathFactory, epochs: list[tuple[list[Act], bool]]
) -> None:
    folder = tmp_path_factory.mktemp("journals")
    plain, model = new_model(), new_model()
    part = kept(model, folder)
    part.keep_as("timing-000-usual")
    saved, inline = part.dump(), plain.dump()
    for done, is_durable in epochs:
        for act in done:
            act(plain)
            act(model)
        mark, whole = part.dump(), plain.dump()
        if is_durable:
            saved, inline = mark, whole
            continue
        plain, model = DeliveryTimeModel.load(inline), new_model()
        part = kept(model, folder)
        part.load(msgspec.msgpack.decode(msgspec.msgpack.encode(saved)))
        assert plain.state_hash() == model.state_hash()
    again = new_model()
    kept(again, folder).load(saved)
    assert DeliveryTimeModel.load(inline).state_hash() == again.state_hash()


LEARNED = [learn(["usr_0", "usr_1", "usr_2"], 1, 60), look_around(["usr_0"] * 20, 2)]


@pytest.mark.parametrize(
    "later",
    [
        lambda model: model.fade(0.5),
        look_at_clusters,
        DeliveryTimeModel.take_delta,
        DeliveryTimeModel.update_population,
        learn(["usr_3"], 4, 300),
        forget(["usr_1"]),
    ],
)
def test_what_happens_to_people_without_a_word_of_them_is_saved_too(
    tmp_path: Path, later: Act
) -> None:
    """Windows that a sweep closes, a past that fades, what clusters learned: an epoch later."""
    model = new_model()
    part = kept(model, tmp_path)
    part.keep_as("timing-000-usual")
    for act in LEARNED:
        act(model)
    part.dump()
    before = model.state_hash()
    later(model)
    assert before != model.state_hash()

    again = new_model()
    kept(again, tmp_path).load(part.dump())

    assert model.state_hash() == again.state_hash()


def test_what_is_saved_grows_with_who_changed_and_not_with_how_many_there_are(
    tmp_path: Path,
) -> None:
    model = DeliveryTimeModel(seed=1)
    users = [f"usr_{number}" for number in range(20_000)]
    model.observe_activity(users, np.arange(20_000) % 168)
    part = kept(model, tmp_path)
    part.keep_as("timing-000-usual")
    marks = [part.dump()["journal"]]
    for turn in range(3):
        model.observe_activity(users[turn::7_000], np.array([turn, turn, turn]))
        marks.append(part.dump()["journal"])

    assert marks[0][2] > 20_000 * 40
    assert max(later[2] - earlier[2] for earlier, later in pairwise(marks)) < 1_500
    assert marks[-1] == part.dump()["journal"]


def test_who_is_forgotten_is_gone_from_disk_with_the_epoch_after(tmp_path: Path) -> None:
    model = new_model()
    part = kept(model, tmp_path)
    part.keep_as("timing-000-usual")
    for act in LEARNED:
        act(model)
    part.dump()
    look_around(["usr_1"], 7)(model)
    part.dump()
    assert b"usr_1" in written(tmp_path)

    model.forget("usr_1")
    mark = part.dump()
    look_around(["usr_2"], 7)(model)
    part.dump()

    assert b"usr_1" not in written(tmp_path)
    assert b"usr_2" in written(tmp_path)
    again = new_model()
    kept(again, tmp_path).load(mark)
    assert "usr_1" not in again
    assert "usr_2" in again


def test_who_has_to_go_for_others_does_not_have_all_written_anew(tmp_path: Path) -> None:
    model = new_model()
    part = kept(model, tmp_path)
    part.keep_as("timing-000-usual")
    number = part.dump()["journal"][1]
    for turn in range(3):
        look_around([f"usr_{turn}_{n}" for n in range(PEOPLE_MAX)], turn)(model)
        assert number == part.dump()["journal"][1]


@pytest.mark.parametrize("people_max", [PEOPLE_MAX // 2, PEOPLE_MAX - 5, 5 * PEOPLE_MAX])
def test_another_bound_of_people_changes_nothing_of_what_was_saved(
    tmp_path: Path, people_max: int
) -> None:
    """Who went for others is told; a lower bound holds from the first newcomer on."""
    model = new_model()
    part = kept(model, tmp_path)
    part.keep_as("timing-000-usual")
    for turn in range(4):
        part.dump()
        look_around([f"usr_{turn}_{n}" for n in range(PEOPLE_MAX // 2)], turn)(model)
        model.forget(f"usr_{turn}_3")
    mark = part.dump()

    again = DeliveryTimeModel(seed=3, source="lane-0", people_max=people_max)
    kept(again, tmp_path).load(mark)
    people, found = model.people, again.people
    assert people.row_of == found.row_of
    for name in people.arrays():
        rows = np.flatnonzero(people.here)
        assert np.array_equal(getattr(people, name)[rows], getattr(found, name)[rows]), name
    assert len(found) == found.here.sum()
    look_around([f"new_{n}" for n in range(people_max // 2)], 9)(again)
    assert len(again.people) == again.people.here.sum()
    assert len(again) <= max(people_max, len(model))


def written(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.iterdir())


def test_a_model_of_another_release_is_refused() -> None:
    whole = msgspec.msgpack.decode(Shelf(new_model()).dump())

    with pytest.raises(UnreadableStateError, match="version 99"):
        Shelf(new_model()).load(msgspec.msgpack.encode({**whole, "version": 99}))
    with pytest.raises(UnreadableStateError, match="other bytes"):
        Shelf(new_model()).load(b"\xc1")


def test_who_was_never_known_is_forgotten_once() -> None:
    """Else every epoch that learns nothing would save the whole again."""
    model = DeliveryTimeModel(seed=1)
    shelf = Shelf(model)
    shelf.watch()
    model.forget("usr_nobody")
    assert shelf.has_erased()
    assert shelf.take_changes() == b""
    assert not shelf.has_erased()
