"""Timing states of earlier releases: each is read, and the lane goes on from it."""

from __future__ import annotations

import json

import msgspec
import pytest

from flows.timing.upgrade import READABLE, STATE_VERSION
from schemas.errors import PermanentError
from tests.messages import HOUR_MS, NOW_MS
from tests.saved_timing import (
    ABOUT,
    RULES,
    answered,
    asked,
    holds,
    homes,
    looked_around,
    timing_state,
)
from tests.timing_world import person, sent
from tests.unit.flows.timing.harness import Post


def resumed(state: bytes) -> Post:
    post = Post(**RULES)
    post.lane.load(state)
    post.take(*homes())
    return post


def test_every_version_that_ever_was_is_kept_and_its_state_holds_what_is_said_about_it() -> None:
    about = json.loads(ABOUT.read_text())

    assert [*READABLE] == [*range(1, STATE_VERSION + 1)] == [*map(int, about)]
    for version in READABLE:
        assert version == msgspec.msgpack.decode(timing_state(version))["version"]
        assert about[str(version)] == holds(resumed(timing_state(version)).lane)


@pytest.mark.parametrize("version", READABLE)
def test_a_lane_goes_on_from_a_saved_state(version: int) -> None:
    """What was sent before is answered now, negatives come by their timers, more is decided."""
    post = resumed(timing_state(version))
    post.take(*answered(2))
    late_ms = NOW_MS + 5 * 48 * HOUR_MS
    post.take(sent(999, at_ms=late_ms, subject=person(99)))
    found = post.ask(*asked(6))

    outcomes = [row["responded"] for row in post.rows["decision_outcomes"]]
    assert {0, 1} == set(outcomes)
    assert [36] * 2 == [one.experience for one in post.lane.learners.values()]
    assert 12 == len(found)
    assert {"linucb", "latent_class", "uniform"} == {one["model"] for one in found}


@pytest.mark.parametrize(("version", "learned"), [(1, 0), (2, 0), (3, 12)])
def test_clusters_learn_of_people_who_were_known_before_there_were_any(
    version: int, learned: int
) -> None:
    """They are newcomers to clusters; who was learned already is learned again at twice as much."""
    post = resumed(timing_state(version))
    assert learned == post.lane.clusters.learned
    post.take(*looked_around(4))
    post.take(*looked_around(6))
    post.take(sent(999, at_ms=NOW_MS + 7 * 48 * HOUR_MS, subject=person(99)))

    assert learned + 12 == post.lane.clusters.learned


def test_a_state_of_today_comes_back_to_the_byte_but_for_what_is_pickled() -> None:
    """Pickles of equal objects may differ: they tell what is shared in memory."""
    post = Post(**RULES)
    post.lane.load(timing_state(STATE_VERSION))
    saved, again = (
        msgspec.msgpack.decode(state) for state in (timing_state(STATE_VERSION), post.lane.dump())
    )
    for state in (saved, again):
        del state["calibration"], state["progressive"], state["learners"]["linucb"]

    assert saved == again


@pytest.mark.parametrize("version", [0, STATE_VERSION + 1, "1", None])
def test_another_version_is_refused_in_words(version: object) -> None:
    state = msgspec.msgpack.decode(timing_state(STATE_VERSION))
    state["version"] = version

    with pytest.raises(PermanentError, match=r"could not load state of \"timing\": found"):
        Post(**RULES).lane.load(msgspec.msgpack.encode(state))


def test_clusters_of_another_release_are_refused_in_words() -> None:
    state = msgspec.msgpack.decode(timing_state(STATE_VERSION))
    state["clusters"]["clusters"]["version"] = 99

    with pytest.raises(PermanentError, match=r"found clusters: could not load .* version 99"):
        Post(**RULES).lane.load(msgspec.msgpack.encode(state))


def test_a_model_of_another_release_is_refused_in_words_and_named() -> None:
    state = msgspec.msgpack.decode(timing_state(STATE_VERSION))
    state["learners"]["latent_class"] = b"another release"

    with pytest.raises(PermanentError, match="found model latent_class: could not load model"):
        Post(**RULES).lane.load(msgspec.msgpack.encode(state))
