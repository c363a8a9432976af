"""The topics, read from `schemas/topics/*.yaml`: who owns one, what it carries, how it is kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from types import MappingProxyType
from typing import Annotated, Final, Literal, Self

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from schemas.errors import ConfigError

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]*$", max_length=64)]
Names = Annotated[tuple[Name, ...], Field(min_length=1)]
TopicName = Annotated[str, StringConstraints(pattern=r"^[a-z]+(\.[a-z]+)+\.v[1-9][0-9]*$")]
Class = Literal[
    "PUBLIC", "INTERNAL", "CONFIDENTIAL", "PSEUDO", "PII", "GDPR", "PCI", "PHI", "SPECIAL", "SECRET"
]

COMPACTION_LAG_MS: Final = 86_400_000
"""A value of a compacted topic stays for so long after it was replaced."""

FOREVER: Final = "forever"
_MS: Final = {"m": 60_000, "h": 3_600_000, "d": 86_400_000}


class Topic(BaseModel):
    """One topic as data.

    `classes` is the ceiling: a message may carry these classes here and no other. `event_types`
    are globs and stand on topics of events only, which are those of inputs and of decisions.
    Topics keyed alike are joined partition by partition, so they have equally many partitions.
    Units: `retention` is minutes, hours or days (`90m`, `36h`, `7d`), or `forever`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    topic: TopicName
    purpose: Annotated[str, StringConstraints(min_length=20, max_length=200)]
    owner: Name
    producers: Names
    consumers: Names
    key: Literal["subject", "lane", "experiment", "dataset"]
    partitions: Annotated[int, Field(ge=1, le=1024)]
    retention: Annotated[str, StringConstraints(pattern=r"^([1-9][0-9]{0,4}[mhd]|forever)$")]
    compaction: bool
    max_message_bytes: Annotated[int, Field(ge=1024, le=8 * 1024 * 1024)]
    classes: Annotated[tuple[Class, ...], Field(min_length=1)]
    event_types: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _check_retention(self) -> Self:
        if self.compaction != (self.retention == FOREVER):
            raise ValueError("retention is forever exactly on compacted topics")
        return self

    @property
    def retention_ms(self) -> int:
        """How long a message is kept at most, in milliseconds; -1 for ever."""
        if self.retention == FOREVER:
            return -1
        return int(self.retention[:-1]) * _MS[self.retention[-1]]

    def accepts(self, event_type: str) -> bool:
        """Say whether producers may put this event type here; never on an output topic."""
        return any(fnmatchcase(event_type, glob) for glob in self.event_types)

    def kafka_config(self) -> dict[str, str]:
        """Write the topic's settings in Kafka's names.

        Producers stamp the messages, so that `recorded_at` is when one was handed over; a stamp
        more than an hour ahead is refused by the broker. Event time is `ce_time`.
        """
        # A worker that restarts reads a table up to where it was: what it held then must not have
        # been compacted away by values that came since.
        lag = {"min.compaction.lag.ms": str(COMPACTION_LAG_MS)} if self.compaction else {}
        return {
            **lag,
            "cleanup.policy": "compact" if self.compaction else "delete",
            "max.message.bytes": str(self.max_message_bytes),
            "message.timestamp.after.max.ms": "3600000",
            "message.timestamp.type": "CreateTime",
            "retention.ms": str(self.retention_ms),
        }


@cache
def load_topics() -> Mapping[str, Topic]:
    """Read all topics that come with the package, by name, in the order of their names.

    Errors: ConfigError for a file that does not parse or fit, or topics that cannot be joined.
    """
    return MappingProxyType(read_topics(files("schemas").joinpath("topics").iterdir()))


def read_topics(sources: Iterable[Traversable]) -> dict[str, Topic]:
    """Read topics from files and check them against each other.

    Errors: ConfigError as in `load_topics`.
    """
    named = sorted((source.name, source) for source in sources if source.name.endswith(".yaml"))
    topics = [_read_topic(source, name.removesuffix(".yaml")) for name, source in named]
    _check_partitions(topics)
    return {topic.topic: topic for topic in topics}


def _read_topic(source: Traversable, name: str) -> Topic:
    try:
        topic = Topic.model_validate(yaml.safe_load(source.read_text(encoding="utf-8")))
    except yaml.YAMLError:
        raise ConfigError(do="read", kind="topic", name=name, found="no YAML") from None
    except ValidationError as fault:
        first = fault.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(str(step) for step in first["loc"]) or "the whole file"
        found = f"{first['type'].replace('_', ' ')} at {place}"
        raise ConfigError(do="read", kind="topic", name=name, found=found) from None
    if topic.topic != name:
        raise ConfigError(
            do="read", kind="topic", name=name, found="another name inside", expected="its own"
        )
    return topic


def _check_partitions(topics: Iterable[Topic]) -> None:
    first: dict[str, Topic] = {}
    for topic in topics:
        other = first.setdefault(topic.key, topic)
        if topic.partitions != other.partitions:
            raise ConfigError(
                do="join",
                kind="topic",
                name=topic.topic,
                found=f"{topic.partitions} partitions",
                expected=f"{other.partitions}, as {other.topic} has, which is keyed alike",
                hint="give both the same number",
            )
