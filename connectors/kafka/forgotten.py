"""Find partitions in which a transaction is open, before anything of ours is.

A broker that starts gives up the transactions whose time is over. Where it does not know a
partition's leader yet, its coordinator takes the partition for deleted, and calls the transaction
aborted without a word in the partition (Kafka 4.3.1, one node: four of four times; "Couldn't find
leader endpoint for partitions …, likely deleted already"). There it stays open: readers of what is
committed wait, and the next commit of the same producer would make its records visible.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from confluent_kafka import IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined] # it re-exports silently
    AdminClient,
    OffsetSpec,
)

from connectors.kafka.lane_state import Place

_TRIES_MAX: Final = 20
_PAUSE_S: Final = 0.25
_REST_S_MAX: Final = 1.0
_LOOK_S: Final = 0.05
_ANSWER_S: Final = 10.0


def find_open(
    config: Mapping[str, Any],
    topics: Sequence[str],
    *,
    sleep: Callable[[float], None] = time.sleep,
    steady_s: Callable[[], float] = time.monotonic,
) -> list[Place]:
    """The partitions of these topics in which a transaction stays open for longer than a moment.

    Shapes: topics that are missing are left out.
    Errors: KafkaException when the brokers do not say so after some seconds.
    """
    deadline_s = steady_s() + _REST_S_MAX
    for left in reversed(range(_TRIES_MAX)):
        try:
            admin = AdminClient(dict(config))
            places = _places_of(admin, topics)
            while True:
                # In this order: what is committed between the two looks is not open.
                newest = _ends(admin, places, IsolationLevel.READ_UNCOMMITTED)
                stable = _ends(admin, places, IsolationLevel.READ_COMMITTED)
                found = [place for place in places if stable[place] < newest[place]]
                if not found or steady_s() > deadline_s:
                    return found
                sleep(_LOOK_S)
        except KafkaException:
            # A broker that just started may not lead the partition yet, or under another number.
            if not left:
                raise
            sleep(_PAUSE_S)
    return []


def _places_of(admin: AdminClient, topics: Sequence[str]) -> list[Place]:
    known = admin.list_topics(timeout=_ANSWER_S).topics
    return [
        (topic, number)
        for topic in topics
        if topic in known and known[topic].error is None
        for number in known[topic].partitions
    ]


def _ends(admin: AdminClient, places: Sequence[Place], level: IsolationLevel) -> dict[Place, int]:
    if not places:
        return {}
    latest = OffsetSpec.latest()  # type: ignore[no-untyped-call] # it has no types
    asked = {TopicPartition(*place): latest for place in places}
    found = admin.list_offsets(asked, isolation_level=level, request_timeout=_ANSWER_S)
    return {(part.topic, part.partition): one.result().offset for part, one in found.items()}
