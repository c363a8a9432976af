"""What a sink writes with: one interface, with a pure and a native level behind it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from confluent_kafka import KafkaError, KafkaException, Producer

from connectors.native.level import Level
from schemas.blocks import OutRecord


class Put(NamedTuple):
    """How far a call came: the place of the first record that was not taken, and why not."""

    place: int
    error: KafkaError | None


class Outlet(Protocol):
    """One lane's producer, and how records get into it."""

    producer: Producer

    def prepare(self, records: Sequence[OutRecord]) -> Sequence[OutRecord]:
        """These records in the form that `put` takes at the least cost."""

    def put(self, records: Sequence[OutRecord], first: int) -> Put:
        """Hand over records from this place on, without waiting, up to one that is not taken."""

    def failure(self) -> tuple[str, KafkaError] | None:
        """The topic and error of a record that was given up and that no callback told of."""


class PureOutlet:
    """Writes with the Python client alone: what every install has."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.producer = Producer(config)

    def prepare(self, records: Sequence[OutRecord]) -> list[OutRecord]:
        """A list: each record is looked at by itself."""
        return list(records)

    def put(self, records: Sequence[OutRecord], first: int) -> Put:
        """Hand over records from this place on, without waiting, up to one that is not taken."""
        produce = self.producer.produce
        for place in range(first, len(records)):
            topic, key, value, headers, _ = records[place]
            given: Any = headers
            try:
                produce(topic, value=value, key=key, headers=given)
            except BufferError:
                return Put(place, KafkaError(KafkaError._QUEUE_FULL))  # noqa: SLF001 - its name
            except KafkaException as err:
                return Put(place, err.args[0])
        return Put(len(records), None)

    def failure(self) -> None:
        """None: the client's callback tells."""


def open_outlet(config: dict[str, Any], level: Level) -> Outlet:
    """The outlet of a level."""
    if level.name == "pure":
        return PureOutlet(config)
    from connectors.native.outlet import NativeOutlet  # noqa: PLC0415 - it imports this module

    return NativeOutlet(config)
