"""Where a partition ends, from its leader."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from confluent_kafka import Consumer, KafkaException, TopicPartition

from connectors.kafka.lane_state import Place, silent_partition

_TRIES_MAX: Final = 5
_WAIT_S: Final = 0.1


def read_end(
    consumer: Consumer, place: Place, *, sleep: Callable[[float], None] = time.sleep
) -> int:
    """The offset that the partition's next message will have, from its leader.

    A client that was just made can answer at once that it does not know the partition: it is made
    to look again, and asked once more after a wait that grows.
    Units: the waits add up to 1.5 s; each question has 10 s.
    Errors: TransientError when the last try failed as well.
    """
    for left in reversed(range(_TRIES_MAX)):
        try:
            return int(consumer.get_watermark_offsets(TopicPartition(*place), timeout=10.0)[1])
        except KafkaException as err:
            if not left:
                raise silent_partition(place, err.args[0].name()) from None
        sleep(_WAIT_S * 2 ** (_TRIES_MAX - 1 - left))
        with suppress(KafkaException):
            consumer.list_topics(place[0], timeout=5.0)
    return 0
