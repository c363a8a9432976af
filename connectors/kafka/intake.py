"""What a lane reads with: one interface, with a pure and a native level behind it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat
from operator import is_not, methodcaller
from typing import Any, Final, NamedTuple, Protocol

from confluent_kafka import Consumer, KafkaError, TopicPartition

from connectors.kafka.columns import to_blocks
from connectors.kafka.lane_state import Place
from connectors.native.level import Level
from schemas.blocks import RawBlock


class Failure(NamedTuple):
    """What the client says of a partition in place of a message; its end, too."""

    place: Place
    offset: int
    error: KafkaError


class Fetched(Protocol):
    """What was there at one look. Shapes: its length counts the messages, not the failures."""

    failures: list[Failure]

    def __len__(self) -> int:
        """How many messages."""

    def messages(self) -> list[Any]:
        """Them one by one, with the methods of the client's own messages."""

    def blocks(
        self,
        *,
        lane: int,
        order: Sequence[str],
        received_ms: int,
        quiet: tuple[Place, ...],
        unread: bool,
    ) -> list[RawBlock]:
        """One block for each topic, in the given order of topics; called once, and last."""


class Intake(Protocol):
    """One lane's consumer, and how its messages are taken."""

    consumer: Consumer

    def assign(self, parts: list[TopicPartition]) -> None:
        """Read these partitions, too."""

    def read(self, messages_max: int) -> Fetched:
        """Everything that is there now, up to so many messages; never waits."""

    def close(self) -> None:
        """Let the broker go."""


class Messages:
    """Messages as objects, one each."""

    def __init__(self, messages: list[Any], failures: list[Failure]) -> None:
        self._messages = messages
        self._size = len(messages)
        self.failures = failures

    def __len__(self) -> int:
        return self._size

    def messages(self) -> list[Any]:
        """Them one by one."""
        return self._messages

    def blocks(
        self,
        *,
        lane: int,
        order: Sequence[str],
        received_ms: int,
        quiet: tuple[Place, ...],
        unread: bool,
    ) -> list[RawBlock]:
        """One block for each topic, in the given order of topics."""
        return to_blocks(
            self._messages,
            lane=lane,
            order=order,
            received_ms=received_ms,
            quiet=quiet,
            unread=unread,
        )


class PureIntake:
    """Reads with the Python client alone: what every install has."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.consumer = Consumer(config)

    def assign(self, parts: list[TopicPartition]) -> None:
        """Read these partitions, too."""
        self.consumer.incremental_assign(parts)

    def read(self, messages_max: int) -> Messages:
        """Everything that is there now, up to so many messages; never waits."""
        return sort_out(self.consumer.consume(messages_max, 0))

    def close(self) -> None:
        """Let the broker go."""
        self.consumer.close()


def open_intake(config: dict[str, Any], level: Level) -> Intake:
    """The intake of a level."""
    if level.name == "pure":
        return PureIntake(config)
    from connectors.native.intake import NativeIntake  # noqa: PLC0415 - it imports this module

    return NativeIntake(config)


_error_of: Final = methodcaller("error")


def sort_out(found: Sequence[Any]) -> Messages:
    """Part messages from what the client reports in their place."""
    errors = list(map(_error_of, found))
    # By identity: the client's errors cannot be compared with None.
    if not any(map(is_not, errors, repeat(None))):
        return Messages(list(found), [])
    messages, failures = [], []
    for message, error in zip(found, errors, strict=True):
        if error is None:
            messages.append(message)
        else:
            place = (message.topic() or "", message.partition() or 0)
            failures.append(Failure(place, message.offset() or 0, error))
    return Messages(messages, failures)
