"""A lane after a crash: the same blocks again, whatever was added to the topics meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from connectors.kafka import resumption
from connectors.native.level import Wish
from schemas.blocks import RawBlock
from schemas.errors import PermanentError
from tests.integration.test_lanes import Topics, open_lane, read, source
from tests.services import KafkaService


@pytest.fixture
def closing() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def topics(kafka: KafkaService, topic_prefix: str, level: Wish) -> Topics:
    return Topics(kafka.bootstrap_servers, topic_prefix, level)


def looks(blocks: list[RawBlock]) -> list[Any]:
    """Everything of blocks that a decision may depend on."""
    return [
        (
            *(block.topic, block.received_ms, block.quiet, block.unread),
            *(block.partitions, block.offsets, block.values),
        )
        for block in blocks
    ]


def places(blocks: list[RawBlock]) -> list[tuple[str, int, int]]:
    return [
        (block.topic, *place)
        for block in blocks
        for place in zip(block.partitions, block.offsets, strict=True)
    ]


class Story:
    """A lane that was saved, went on for some blocks, and crashed; then more was sent."""

    def __init__(self, topics: Topics, closing: ExitStack, folder: Path | None) -> None:
        self.topics, self.closing = topics, closing
        self.more: dict[str, Any] = {} if folder is None else {"order_folder": folder}
        topics.send(topics.table, 20)
        topics.send(topics.stream, 100)
        part = open_lane(closing, source(topics, block_messages_max=9, **self.more), 0)
        self.before = read(part, 60)
        self.saved = part.snapshot()
        part.next_batch()
        topics.send(topics.stream, 60, first=100)
        self.doubtful = read(part, 30)
        topics.send(topics.table, 10, first=20)
        self.doubtful += read(part, 5)
        topics.send(topics.stream, 40, first=160)
        self.doubtful += read(part, 20)
        topics.send(topics.table, 10, first=30)
        topics.send(topics.stream, 40, first=200)

    def again(self, saved: dict[str, Any], count: int, *, blocks_max: int = 5_000) -> Any:
        part = open_lane(
            self.closing,
            source(self.topics, block_messages_max=blocks_max, **self.more),
            0,
            saved,
        )
        return part, read(part, count)


def split(blocks: list[RawBlock], count: int) -> tuple[list[RawBlock], list[RawBlock]]:
    """The blocks of the first `count` messages, and the others."""
    seen = 0
    for place, block in enumerate(blocks):
        if seen == count:
            return blocks[:place], blocks[place:]
        seen += len(block.values)
    return blocks, []


def test_an_epoch_in_doubt_is_given_again_as_it_was(
    topics: Topics, closing: ExitStack, tmp_path: Path
) -> None:
    story = Story(topics, closing, tmp_path)

    _, blocks = story.again(story.saved, 10 + 55 + 5 + 20)
    tables, rest = split(blocks, 10)
    doubtful, new = split(rest, 55)

    assert [topics.table] * len(tables) == [block.topic for block in tables]
    assert {place for place in places(story.before) if place[0] == topics.table} == set(
        places(tables)
    )
    assert all(block.unread for block in tables)
    assert looks(story.doubtful) == looks(doubtful)
    assert 25 == len(set(places(new)))
    assert not set(places(new)) & set(places(story.before) + places(story.doubtful))


def test_a_second_crash_on_the_way_changes_nothing(
    topics: Topics, closing: ExitStack, tmp_path: Path
) -> None:
    story = Story(topics, closing, tmp_path)
    first, blocks = story.again(story.saved, 10 + 20, blocks_max=3)
    _, given = split(blocks, 10)
    saved = first.snapshot()
    first.close()

    tables = sum(block.topic == topics.table for block in given for _ in block.values)
    _, blocks = story.again(saved, 10 + tables + 55 - sum(len(b.values) for b in given) + 25)
    _, rest = split(blocks, 10 + tables)

    assert looks(story.doubtful) == looks(given + rest)[: len(story.doubtful)]
    assert 25 == len(set(places(rest[len(story.doubtful) - len(given) :])))


def test_without_the_notes_the_same_crash_cuts_other_blocks(
    topics: Topics, closing: ExitStack
) -> None:
    story = Story(topics, closing, None)

    _, blocks = story.again(story.saved, 10 + 55 + 25)

    assert looks(story.doubtful) != looks(split(blocks, 10)[1])[: len(story.doubtful)]


def test_a_table_that_is_shorter_than_it_was_stops_the_lane(
    topics: Topics, closing: ExitStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Silence would be worse: the lane would never come to its streams."""
    monkeypatch.setattr(resumption, "_STUCK_S_MAX", 1.5)
    topics.send(topics.table, 8)
    saved = {"version": 2, "next": {(topics.table, 0): 40}}
    part = open_lane(closing, source(topics, order_folder=tmp_path), 0, saved)

    with pytest.raises(PermanentError, match="at offset 40: found that offset is gone"):
        read(part, 100)


def test_a_table_that_was_made_anew_stops_the_lane_at_once(
    topics: Topics, closing: ExitStack
) -> None:
    saved = {"version": 2, "next": {(topics.table, 0): 40}}
    with pytest.raises(PermanentError, match="that offset is gone"):
        open_lane(closing, source(topics), 0, saved)


def test_notes_of_another_time_are_not_used(
    topics: Topics, closing: ExitStack, tmp_path: Path
) -> None:
    story = Story(topics, closing, tmp_path)

    _, blocks = story.again({"version": 2, "next": {}}, 20 + 120)

    assert len(places(blocks)) == len(set(places(blocks)))
