"""States of journeys as earlier releases saved them: the lane goes on as if it never stopped."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest

from connectors.journal import Journals
from flows.follow import Follower
from flows.journey.follow import STATE_VERSION, JourneyFollower
from schemas.blocks import AcceptedBlock, Rows
from schemas.errors import PermanentError
from tests.saved_states import (
    ABOUT,
    JOURNALS,
    accepted,
    journey_state,
    kept_journeys,
    new_journeys,
    story,
)

VERSIONS = range(1, STATE_VERSION + 1)


def follow(follower: Follower, blocks: list[AcceptedBlock]) -> list[Any]:
    told: list[Any] = []
    for block in blocks:
        followed = follower.follow(block)
        told.append((followed.records, [lines_of(rows) for rows in followed.rows]))
    return told


def lines_of(rows: Rows) -> tuple[str, list[Any]]:
    return rows.table, sorted(zip(*rows.columns.values(), strict=True), key=repr)


def loaded(state: bytes) -> Follower:
    follower = new_journeys()
    follower.load(state)
    return follower


def test_every_version_that_ever_was_is_kept() -> None:
    assert [*VERSIONS] == [*map(int, ABOUT["journey"])]
    for version in VERSIONS:
        assert version == msgspec.msgpack.decode(journey_state(version))["version"]


@pytest.mark.parametrize("version", VERSIONS)
def test_journeys_go_on_from_a_saved_state_as_if_they_had_never_stopped(version: int) -> None:
    before, after = accepted(story().before, story().after)
    steady = new_journeys()
    follow(steady, before)
    resumed = loaded(journey_state(version))

    wanted, found = follow(steady, after), follow(resumed, after)

    assert wanted == found
    told = [table for _, rows in wanted for table, _ in rows]
    assert {"journeys", "outcomes"} <= set(told)
    changed = {line[0] for _, rows in wanted for table, lines in rows for line in lines}
    state = msgspec.msgpack.decode(journey_state(version))
    known = set(state.get("kept", state)["book"]["journeys"])
    assert known & changed  # the second half has events of journeys of the first


def test_a_state_of_today_is_the_state_of_a_lane_that_never_stopped() -> None:
    steady = new_journeys()
    follow(steady, accepted(story().before)[0])

    assert journey_state(STATE_VERSION) == steady.dump()


def test_journeys_in_a_journal_are_read_and_go_on(tmp_path: Path) -> None:
    """They were saved after each block; the last epochs did not become durable."""
    shutil.copytree(JOURNALS, tmp_path, dirs_exist_ok=True)
    before, after = accepted(story().before, story().after)
    steady, resumed = new_journeys(), new_journeys()
    follow(steady, before)
    assert isinstance(resumed, JourneyFollower)
    resumed.keep_in(Journals(tmp_path).open)
    resumed.load(kept_journeys())

    assert follow(steady, after) == follow(resumed, after)


def test_a_state_of_before_exceptions_leads_to_the_same_journeys() -> None:
    """A release without them had no such part in the same version."""
    state = msgspec.msgpack.decode(journey_state(1))
    del state["watch"]
    old = loaded(msgspec.msgpack.encode(state))
    today = loaded(journey_state(1))
    after = accepted(story().before, story().after)[1]

    wanted, found = follow(today, after), follow(old, after)

    for (_, rows), (_, others) in zip(wanted, found, strict=True):
        assert [part for part in rows if part[0] != "process_exceptions"] == [
            part for part in others if part[0] != "process_exceptions"
        ]


@pytest.mark.parametrize("version", [0, STATE_VERSION + 1, None])
def test_another_version_is_refused_in_words(version: object) -> None:
    state = msgspec.msgpack.decode(journey_state(STATE_VERSION)) | {"version": version}

    with pytest.raises(PermanentError, match=f"journeys: found state version {version}; expected"):
        loaded(msgspec.msgpack.encode(state))
