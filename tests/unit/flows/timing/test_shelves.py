"""The models of a lane: kept in journals or whole, and what becomes of those not named now."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from connectors.journal import Journals
from flows.model import DeliveryTimeModel
from flows.timing.learners import KINDS
from flows.timing.shelves import Shelves
from schemas.errors import PermanentError


def shelves(folder: Path | None, **names: str) -> Shelves:
    made = Shelves({name: KINDS[kind](None) for name, kind in names.items()})
    made.keep_in(Journals(folder).open if folder is not None else None)
    made.make(seed=1, lane=2, people_max=50)
    return made


def live(made: Shelves) -> None:
    for learner in made.learners.values():
        learner.observe_activity(["usr_1", "usr_2"], np.array([9, 20]))
        learner.learn(["usr_1", "usr_2"], np.array([9, 20]), np.array([True, False]))


def saved(made: Shelves) -> dict[str, Any]:
    told: dict[str, Any] = msgspec.msgpack.decode(msgspec.msgpack.encode(made.dump()))
    return told


def hashes(made: Shelves) -> list[str]:
    models = made.learners.values()
    return [model.state_hash() for model in models if isinstance(model, DeliveryTimeModel)]


def files(folder: Path) -> list[str]:
    return sorted(path.name.split(".")[0] for path in folder.iterdir())


def test_the_usual_model_is_kept_in_a_journal_and_others_whole(tmp_path: Path) -> None:
    made = shelves(tmp_path, usual="latent_class", spring="linucb")
    live(made)
    state = saved(made)

    assert {"journal", "whole_s"} == {*state["usual"]}
    assert isinstance(state["spring"], bytes)
    again = shelves(tmp_path, usual="latent_class", spring="linucb")
    again.load(state, lane=2)
    assert hashes(made) == hashes(again)
    assert [2, 2] == [learner.experience for learner in again.learners.values()]


def test_a_state_from_before_there_were_journals_goes_on_in_one(tmp_path: Path) -> None:
    before = shelves(None, usual="latent_class")
    live(before)
    made = shelves(tmp_path, usual="latent_class")
    made.load(saved(before), lane=2)
    live(made)
    again = shelves(tmp_path, usual="latent_class")
    again.load(saved(made), lane=2)

    live(before)
    assert hashes(before) == hashes(made) == hashes(again)


def test_files_of_a_model_that_is_named_no_more_go_once_a_state_without_it_is_durable(
    tmp_path: Path,
) -> None:
    made = shelves(tmp_path, usual="latent_class", autumn="latent_class")
    live(made)
    state = saved(made)
    assert ["timing-002-autumn", "timing-002-usual"] == files(tmp_path)

    fewer = shelves(tmp_path, usual="latent_class")
    fewer.load(state, lane=2)
    fewer.dump()
    assert ["timing-002-autumn", "timing-002-usual"] == files(tmp_path)
    fewer.dump()
    assert ["timing-002-usual"] == files(tmp_path)


def test_a_name_that_means_another_kind_now_is_refused(tmp_path: Path) -> None:
    state = saved(shelves(tmp_path, usual="latent_class"))

    with pytest.raises(PermanentError, match="model usual"):
        shelves(tmp_path, usual="linucb").load(state, lane=2)
