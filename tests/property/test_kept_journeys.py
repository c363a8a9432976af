"""Journeys that are kept in a journal are, after any crash, what they are without one."""

from __future__ import annotations

from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.journal import Journals
from flows.journey.diary import Diary
from flows.journey.follow import JourneyFollower
from flows.steps.keep import Kept
from schemas.blocks import AcceptedBlock
from tests.saved_states import accepted, new_journeys, story

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


def kept_in(journals: Journals) -> JourneyFollower:
    follower = new_journeys()
    assert isinstance(follower, JourneyFollower)
    follower.keep_in(journals.open)
    return follower


def blocks_of(seed: int) -> list[AcceptedBlock]:
    """The story's blocks, with leaps of event time: timers, time-outs and the forgotten."""
    before, after = accepted(story().before, story().after)
    rng = Random(seed)
    leap_ms, found = 0, []
    for block in [*before, *after]:
        found.append(block)
        leap_ms += rng.choices((0, HOUR_MS, 2 * DAY_MS, 60 * DAY_MS), (20, 6, 2, 1))[0]
        if block.watermark_ms:
            block.watermark_ms += leap_ms
    return found


def diary_of(follower: JourneyFollower) -> dict[str, Any]:
    kept: Kept = follower._kept
    part = kept._part
    assert isinstance(part, Diary)
    return part.dump()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 99), durable=st.lists(st.booleans(), min_size=4, max_size=30))
def test_after_lost_epochs_kept_journeys_are_what_was_saved(
    tmp_path_factory: pytest.TempPathFactory, seed: int, durable: list[bool]
) -> None:
    journals = Journals(tmp_path_factory.mktemp("journals"))
    blocks = blocks_of(seed)
    plain, kept = new_journeys(), kept_in(journals)
    assert isinstance(plain, JourneyFollower)
    inline, saved = plain.dump(), kept.dump()
    step = max(len(blocks) // len(durable), 1)
    for number, is_durable in enumerate(durable):
        for block in blocks[number * step : (number + 1) * step]:
            assert plain.follow(block) == kept.follow(block)
        assert diary_of(plain) == diary_of(kept)
        whole, mark = plain.dump(), kept.dump()
        again = kept_in(journals)
        again.load(mark)
        assert diary_of(plain) == diary_of(again)
        if is_durable:
            inline, saved = whole, mark
            continue
        plain, kept = new_journeys(), kept_in(journals)
        assert isinstance(plain, JourneyFollower)
        plain.load(inline)
        kept.load(saved)
        assert diary_of(plain) == diary_of(kept)
    told = msgspec.msgpack.decode(saved)["kept"]
    assert "journal" in told or not any(durable)


def test_the_stories_have_what_is_kept_and_what_is_dropped() -> None:
    most: dict[str, int] = {}
    dropped: set[str] = set()
    for seed in range(8):
        follower = new_journeys()
        assert isinstance(follower, JourneyFollower)
        before: dict[str, int] = {}
        for block in blocks_of(seed):
            follower.follow(block)
            told = diary_of(follower)
            now = {
                "journeys": len(told["book"]["journeys"]),
                "forgotten": len(told["book"]["forgotten"]) // 8,
                "people": len(told["people"]["subjects"]),
                "due": len(told["watch"]["journeys"]),
                "told": len(told["watch"]["told"]),
            }
            dropped |= {name for name, size in now.items() if size < before.get(name, 0)}
            most = {name: max(size, most.get(name, 0)) for name, size in now.items()}
            before = now
    assert dropped == set(most)
    assert min(most.values()) > 1, most
