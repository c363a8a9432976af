"""Read a lane's messages with the native library: whole batches, no object for each message."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from confluent_kafka import Consumer, KafkaError, TopicPartition

from connectors.kafka.columns import read_headers
from connectors.kafka.intake import Failure, Messages, sort_out
from connectors.kafka.lane_state import Place
from connectors.native.level import load_native, plugin_config
from schemas.blocks import RawBlock
from schemas.ticket import Header

if TYPE_CHECKING:
    from connectors.native._native import Batch


class Copy(NamedTuple):
    """One message, for the few that are held back one by one; asked like the client's own."""

    topic_name: str
    partition_number: int
    offset_number: int
    at_ms: int
    key_bytes: bytes | None
    value_bytes: bytes | None
    header_list: list[Header] | None

    @classmethod
    def of(cls, message: Any) -> Copy:
        """A copy of one of the client's messages."""
        return cls(
            message.topic(),
            message.partition(),
            message.offset(),
            message.timestamp()[1],
            message.key(),
            message.value(),
            read_headers([message])[0],
        )

    def topic(self) -> str:
        """The topic."""
        return self.topic_name

    def partition(self) -> int:
        """The partition."""
        return self.partition_number

    def offset(self) -> int:
        """The offset."""
        return self.offset_number

    def timestamp(self) -> tuple[int, int]:
        """The kind of its record time, which nobody asks for, and the time in milliseconds."""
        return 1, self.at_ms

    def key(self) -> bytes | None:
        """The key."""
        return self.key_bytes

    def value(self) -> bytes | None:
        """The value."""
        return self.value_bytes

    def headers(self) -> list[Header] | None:
        """The headers."""
        return self.header_list

    def error(self) -> None:
        """None: only messages are copied."""


class Batches:
    """Messages in the library's memory, one batch for each topic."""

    def __init__(self, batches: list[Batch], failures: list[Failure]) -> None:
        self._batches = {batch.topic(): batch for batch in batches}
        self.failures = failures

    def __len__(self) -> int:
        return sum(map(len, self._batches.values()))

    def messages(self) -> list[Copy]:
        """Them one by one; in order within each topic."""
        return [
            Copy(topic, *parts)
            for topic, batch in self._batches.items()
            for parts in zip(
                batch.partitions(),
                batch.offsets(),
                batch.timestamps(),
                batch.keys(),
                batch.values(),
                batch,
                strict=True,
            )
        ]

    def blocks(
        self,
        *,
        lane: int,
        order: Sequence[str],
        received_ms: int,
        quiet: tuple[Place, ...],
        unread: bool,
    ) -> list[RawBlock]:
        """One block for each topic, in the given order; headers stay in the library."""
        return [
            RawBlock(
                lane=lane,
                topic=topic,
                received_ms=received_ms,
                partitions=batch.partitions(),
                offsets=batch.offsets(),
                timestamps=batch.timestamps(),
                keys=batch.keys(),
                headers=cast("Sequence[list[Header] | None]", batch),
                values=batch.values(),
                quiet=quiet,
                unread=unread,
            )
            for topic in order
            if (batch := self._batches.get(topic)) is not None
        ]


class NativeIntake:
    """Reads the partitions' own queues; everything else stays with the Python client.

    Its callbacks are served by it, since only it may call into Python, and so is what it reports
    about no partition.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        self.consumer = Consumer(plugin_config(config))
        self._reader = load_native().Reader()

    def assign(self, parts: list[TopicPartition]) -> None:
        """Read these partitions, too; their queues are taken over before anything is in them."""
        for part in parts:
            self._reader.forward(part.topic, part.partition)
        self.consumer.incremental_assign(parts)

    def read(self, messages_max: int) -> Batches | Messages:
        """Everything that is there now, up to so many messages; never waits."""
        aside = sort_out(self.consumer.consume(messages_max, 0))
        if aside:
            # None is meant to come this way; one that does came before those in the queues.
            copies = [Copy.of(message) for message in aside.messages()]
            return Messages(copies, aside.failures)
        batches, errors = self._reader.fetch(messages_max, 0)
        failures = [
            Failure((topic, partition), offset, KafkaError(code))
            for topic, partition, offset, code in errors
        ]
        return Batches(batches, aside.failures + failures)

    def close(self) -> None:
        """Let the queues and the broker go."""
        self._reader.close()
        self.consumer.close()
