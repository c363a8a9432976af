"""Find partitions in which a transaction is open, before anything of ours is.

A broker that starts gives up the transactions whose time is over. Where it does not know a
partition's leader yet, its coordinator takes the partition for deleted, and calls the transaction
aborted without a word in the partition (Kafka 4.3.1, one node: four of four times; "Couldn't find
leader endpoint for partitions …, likely deleted already"). There it stays open: readers of what is
committed wait, and the next commit of the same producer would make its records visible.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from confluent_kafka import IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined] # it re-exports silently
    AdminClient,
    OffsetSpec,
)

from connectors.kafka.lane_state import Place

_PAUSE_S: Final = 0.25
_REST_S_MAX: Final = 1.0
_LOOK_S: Final = 0.05
_ANSWER_S: Final = 5.0


def find_open(
    config: Mapping[str, Any], topics: Sequence[str], *, wait_s_max: float = 30.0
) -> list[Place]:
    """The partitions of these topics in which a transaction stays open for longer than a moment.

    Shapes: topics that are missing are left out.
    Errors: KafkaException when the brokers do not say so in time; one question may last 5 s longer.
    """
    ends_s = time.monotonic() + wait_s_max
    while True:
        try:
            return _look(AdminClient(dict(config)), topics, min(_ANSWER_S, wait_s_max))
        except KafkaException:
            # A broker that just started may not lead the partition yet, or under another number.
            if time.monotonic() > ends_s:
                raise
            time.sleep(_PAUSE_S)


def _look(admin: AdminClient, topics: Sequence[str], answer_s: float) -> list[Place]:
    places = _places_of(admin, topics, answer_s)
    rested_s = time.monotonic() + _REST_S_MAX
    while True:
        # In this order: what is committed between the two looks is not open.
        newest = _ends(admin, places, IsolationLevel.READ_UNCOMMITTED, answer_s)
        stable = _ends(admin, places, IsolationLevel.READ_COMMITTED, answer_s)
        found = [place for place in places if stable[place] < newest[place]]
        if not found or time.monotonic() > rested_s:
            return found
        time.sleep(_LOOK_S)


def _places_of(admin: AdminClient, topics: Sequence[str], answer_s: float) -> list[Place]:
    known = admin.list_topics(timeout=answer_s).topics
    return [
        (topic, number)
        for topic in topics
        if topic in known and known[topic].error is None
        for number in known[topic].partitions
    ]


def _ends(
    admin: AdminClient, places: Sequence[Place], level: IsolationLevel, answer_s: float
) -> dict[Place, int]:
    if not places:
        return {}
    latest = OffsetSpec.latest()  # type: ignore[no-untyped-call] # it has no types
    asked = {TopicPartition(*place): latest for place in places}
    found = admin.list_offsets(asked, isolation_level=level, request_timeout=answer_s)
    return {(part.topic, part.partition): one.result().offset for part, one in found.items()}
