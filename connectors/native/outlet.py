"""Hand records to librdkafka with the native library: many at a call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from confluent_kafka import KafkaError, Producer

from connectors.kafka.outlet import Put
from connectors.native.level import load_native, plugin_config
from schemas.blocks import OutRecord
from schemas.records import Records

_TOPICS_MAX: Final = 64


class NativeOutlet:
    """Writes with the Python client's own producer, past its Python part.

    Delivery: the client's callback does not see these records, so `failure` must be asked.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        self.producer = Producer(plugin_config(config))
        self._writer = load_native().Writer()

    def prepare(self, records: Sequence[OutRecord]) -> Sequence[OutRecord]:
        """As they are, where columns can be handed over; else a list."""
        if isinstance(records, Records):
            stamped = records.stamped
            if stamped is None or len(set(stamped.topics)) <= _TOPICS_MAX:
                return records
        return list(records)

    def put(self, records: Sequence[OutRecord], first: int) -> Put:
        """Hand over records from this place on, without waiting, up to one that is not taken."""
        if not isinstance(records, Records):
            place, code = self._writer.produce(records, first)
            return Put(place, KafkaError(code) if code else None)
        stamped = records.stamped
        size = len(stamped) if stamped else 0
        place, code = first, 0
        if stamped and place < size:
            topics = list(dict.fromkeys(stamped.topics))
            labels = [
                (topics.index(topic), headers)
                for topic, headers in zip(stamped.topics, stamped.labels, strict=True)
            ]
            place, code = self._writer.stamp(
                topics,
                labels,
                stamped.numbers.tobytes(),
                stamped.columns,
                stamped.rests,
                stamped.keys,
                stamped.values,
                place,
            )
        if not code and place >= size:
            place, code = self._writer.produce(records.singles, place - size)
            place += size
        return Put(place, KafkaError(code) if code else None)

    def failure(self) -> tuple[str, KafkaError] | None:
        """The topic and error of the first record that was given up."""
        found = self._writer.failure()
        return None if found is None else (found[0], KafkaError(found[1]))
