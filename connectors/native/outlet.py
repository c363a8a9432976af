"""Hand records to librdkafka with the native library: many at a call."""

from __future__ import annotations

from typing import Any

from confluent_kafka import KafkaError, Producer

from connectors.kafka.outlet import Put
from connectors.native.level import load_native, plugin_config
from schemas.blocks import OutRecord


class NativeOutlet:
    """Writes with the Python client's own producer, past its Python part.

    Delivery: the client's callback does not see these records, so `failure` must be asked.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        self.producer = Producer(plugin_config(config))
        self._writer = load_native().Writer()

    def put(self, records: list[OutRecord], first: int) -> Put:
        """Hand over records from this place on, without waiting, up to one that is not taken."""
        place, code = self._writer.produce(records, first)
        return Put(place, KafkaError(code) if code else None)

    def failure(self) -> tuple[str, KafkaError] | None:
        """The topic and error of the first record that was given up."""
        found = self._writer.failure()
        return None if found is None else (found[0], KafkaError(found[1]))
