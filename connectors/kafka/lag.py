"""How many messages of a lane's partitions are still to be read."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from confluent_kafka import TopicPartition

from connectors.kafka.ends import read_end
from connectors.kafka.lane_state import Place


class Lag:
    """Counts what a client knows of ends; of what it does not read yet, they are asked for once.

    So a lane that loads its tables does not look as if it had nothing to do.
    """

    def __init__(self, consumer: Any, waiting: Iterable[Place]) -> None:
        self._consumer = consumer
        self._first = {place: read_end(consumer, place) for place in waiting}

    def count(self, places: Iterable[Place], next_of: Callable[[Place], int]) -> int:
        """How many messages these partitions have from the next offset of each on."""
        return sum(max(self._end(place) - next_of(place), 0) for place in places)

    def _end(self, place: Place) -> int:
        end = self._consumer.get_watermark_offsets(TopicPartition(*place), cached=True)[1]
        return int(end) if end > 0 else self._first.get(place, 0)
