"""Messages become blocks of columns, and go while this is done."""

from __future__ import annotations

from typing import Any, Final

from confluent_kafka import Message

from connectors.kafka.columns import to_block, to_blocks
from connectors.kafka.intake import Messages
from schemas.header_runs import RUN
from schemas.ticket import Header
from tests.messages import ticket_headers

TOPICS: Final = ("a.v1", "b.v1")
LANE: Final[dict[str, Any]] = {"lane": 0, "received_ms": 9, "quiet": (), "unread": False}


def message(number: int, topic: str = TOPICS[0]) -> Message:
    return Message(
        topic=topic,
        partition=number % 3,
        offset=number,
        key=b"k%d" % number,
        value=b"v%d" % number,
        headers=[*ticket_headers(number + 1)],
        timestamp=(1, 1_000 + number),
    )


def test_a_block_has_every_part_of_its_messages_in_their_order() -> None:
    size = 2 * RUN + 30
    block = to_block([message(number) for number in range(size)], topic=TOPICS[0], **LANE)

    assert [number % 3 for number in range(size)] == block.partitions
    assert list(range(size)) == block.offsets
    assert [1_000 + number for number in range(size)] == block.timestamps
    assert [b"k%d" % number for number in range(size)] == block.keys
    assert [b"v%d" % number for number in range(size)] == block.values
    assert [ticket_headers(number + 1) for number in range(size)] == list(block.headers)


class Counted:
    """A message whose partition is how many of its kind are still there."""

    there = 0

    def __init__(self) -> None:
        Counted.there += 1

    def __del__(self) -> None:
        Counted.there -= 1

    def headers(self) -> list[Header]:
        return ticket_headers()

    def partition(self) -> int:
        return Counted.there

    def timestamp(self) -> tuple[int, int]:
        return (1, 1)

    offset = partition

    def key(self) -> bytes:
        return b"k"

    value = key


def test_messages_go_run_by_run() -> None:
    block = to_block([Counted() for _ in range(4 * RUN)], topic=TOPICS[0], **LANE)

    runs = [set(block.partitions[first : first + RUN]) for first in range(0, 4 * RUN, RUN)]
    assert [{4 * RUN}, {3 * RUN}, {2 * RUN}, {RUN}] == runs
    assert 0 == Counted.there


def test_blocks_of_several_topics_keep_the_order_of_each() -> None:
    taken = Messages([message(number, TOPICS[number % 2]) for number in range(9)], [])
    blocks = taken.blocks(order=TOPICS, **LANE)

    assert [(TOPICS[0], [0, 2, 4, 6, 8]), (TOPICS[1], [1, 3, 5, 7])] == [
        (block.topic, list(block.offsets)) for block in blocks
    ]
    assert 9 == len(taken)
    assert [] == taken.messages()
    assert [] == to_blocks([message(1, "c.v1")], order=TOPICS, **LANE)
