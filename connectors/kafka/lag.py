"""How many messages of a lane's partitions are still to be read."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from confluent_kafka import KafkaException, TopicPartition

from connectors.kafka.lane_state import Place

_ANSWER_S: Final = 2.0


class Lag:
    """Counts what a client knows of ends; of what it does not read yet, they are asked for once.

    So a lane that loads its tables does not look as if it had nothing to do. Where Kafka does not
    answer, nothing is counted: no lane waits for that.
    """

    def __init__(self, consumer: Any, waiting: Iterable[Place]) -> None:
        self._consumer = consumer
        self._first: dict[Place, tuple[int, int]] = {}
        for place in waiting:
            try:
                low, end = consumer.get_watermark_offsets(TopicPartition(*place), timeout=_ANSWER_S)
            except KafkaException:
                break
            self._first[place] = (int(low), int(end))

    def count(self, places: Iterable[Place], next_of: Callable[[Place], int]) -> int:
        """How many messages these partitions have from the next offset of each on."""
        return sum(self._of(place, next_of(place)) for place in places)

    def _of(self, place: Place, next_offset: int) -> int:
        _, end = self._consumer.get_watermark_offsets(TopicPartition(*place), cached=True)
        if end > 0:
            return max(int(end) - next_offset, 0)
        low, end = self._first.get(place, (0, 0))
        return max(end - max(next_offset, low), 0)
