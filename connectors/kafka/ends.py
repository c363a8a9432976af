"""Where a partition ends, from its leader."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from confluent_kafka import Consumer, KafkaException, TopicPartition

from connectors.kafka.lane_state import Place, silent_partition

_TRIES_MAX: Final = 8
_WAIT_S: Final = 0.1
_WAIT_S_MAX: Final = 5.0
_ALL_S_MAX: Final = 45.0


def read_end(
    consumer: Consumer, place: Place, *, sleep: Callable[[float], None] = time.sleep
) -> int:
    """The offset that the partition's next message will have, from its leader.

    A client that was just made can answer at once that it does not know the partition, and a broker
    that just started that it does not lead it: the client is made to look again, and asked once
    more after a wait that grows.
    Units: the waits add up to 11 s; each question has 10 s, and none begins after 45 s.
    Errors: TransientError when the last try failed as well.
    """
    ends_s = time.monotonic() + _ALL_S_MAX
    for number in range(_TRIES_MAX):
        try:
            return int(consumer.get_watermark_offsets(TopicPartition(*place), timeout=10.0)[1])
        except KafkaException as err:
            if number == _TRIES_MAX - 1 or time.monotonic() > ends_s:
                raise silent_partition(place, err.args[0].name()) from None
        sleep(min(_WAIT_S * 2**number, _WAIT_S_MAX))
        with suppress(KafkaException):
            consumer.list_topics(place[0], timeout=5.0)
    return 0
