"""Turn Kafka messages into blocks of columns."""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import Any

from schemas.blocks import RawBlock
from schemas.header_runs import RUN, TakenHeaders
from schemas.ticket import Header
from schemas.ticket_reader import UNREADABLE


def to_blocks(
    messages: list[Any],
    *,
    lane: int,
    order: Sequence[str],
    received_ms: int,
    quiet: tuple[tuple[str, int], ...],
    unread: bool,
) -> list[RawBlock]:
    """One block for each topic, in the given order of topics; order within a partition is kept.

    The messages are taken out of the list.
    """
    # All messages of a lane are of one class: the client's own, or copies of them.
    topics = list(map(type(messages[0]).topic, messages))
    groups: dict[str, list[Any]] = {}
    if len(set(topics)) == 1:
        groups[topics[0] or ""] = messages
    else:
        for topic, message in zip(topics, messages, strict=True):
            groups.setdefault(topic or "", []).append(message)
        messages.clear()
    return [
        to_block(
            groups[topic],
            lane=lane,
            topic=topic,
            received_ms=received_ms,
            quiet=quiet,
            unread=unread,
        )
        for topic in order
        if topic in groups
    ]


def to_block(
    messages: list[Any],
    *,
    lane: int,
    topic: str,
    received_ms: int,
    quiet: tuple[tuple[str, int], ...],
    unread: bool,
) -> RawBlock:
    """One block of messages of one topic, in their order; there is at least one.

    They are taken out of the list, run by run: what is made of a message while it is warm frees
    it while it is warm, and the next run's headers are made in the same memory.
    """
    kind = type(messages[0])
    partitions: list[int] = []
    offsets: list[int] = []
    timestamps: list[int] = []
    keys: list[bytes | None] = []
    values: list[bytes | None] = []
    headers = TakenHeaders()
    while messages:
        run = messages[:RUN]
        del messages[:RUN]
        partitions += map(kind.partition, run)
        offsets += map(kind.offset, run)
        timestamps += map(itemgetter(1), map(kind.timestamp, run))
        keys += map(kind.key, run)
        values += map(kind.value, run)
        headers.add_run(read_headers(run))
    return RawBlock(
        lane=lane,
        topic=topic,
        received_ms=received_ms,
        partitions=partitions,
        offsets=offsets,
        timestamps=timestamps,
        keys=keys,
        headers=headers,
        values=values,
        quiet=quiet,
        unread=unread,
    )


def read_headers(messages: list[Any]) -> list[list[Header] | None]:
    """Read all headers in C loops; a message whose header names are not UTF-8 is marked.

    For such a name the client leaves a hole in the list that it returns, and an error that only
    the call through `map` brings to light: a plain call would hand out the hole, and touching it
    ends the process. So each message is asked once, here, and never again.
    """
    asked = map(type(messages[0]).headers, messages)
    found: list[list[Header] | None] = []
    while True:
        try:
            # Consumed headers are always a list, with bytes or null for each name.
            found.extend(asked)
        except (UnicodeDecodeError, SystemError):
            found.append([(UNREADABLE, None)])
        else:
            return found
