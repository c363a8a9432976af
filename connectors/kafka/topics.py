"""Create the topics that are described as data, and say where reality differs."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import ConfigResource
from confluent_kafka.admin._resource import ResourceType
from confluent_kafka.cimpl import NewTopic

from connectors.kafka.client import client_config, read_metadata
from schemas.errors import PermanentError
from schemas.topics_catalog import Topic

_TIMEOUT_S: Final = 30.0


class Applied(NamedTuple):
    """What `apply_topics` did: the topics it made, those that were there, and what differs.

    Shapes: differences are sentences about partition counts and about the settings that the data
    names; other settings are not looked at.
    """

    created: list[str]
    present: list[str]
    differences: list[str]


def apply_topics(
    topics: Collection[Topic],
    *,
    bootstrap_servers: str,
    partitions: int | None = None,
    replication: int = 1,
    tries: int = 5,
    extra: Mapping[str, str] | None = None,
) -> Applied:
    """Create what is missing; never change or delete what is there.

    Delivery: safe to repeat. `partitions` replaces the count of the data, the same for all.
    Errors: TransientError when no broker answers; PermanentError when it refuses.
    """
    admin = AdminClient(client_config(bootstrap_servers, extra or {}))
    there = read_metadata(admin, bootstrap_servers=bootstrap_servers, tries=tries).topics
    result = Applied([], [], [])
    wanted: list[NewTopic] = []
    for topic in topics:
        count = partitions or topic.partitions
        found = there.get(topic.topic)
        if found is None:
            wanted.append(
                NewTopic(topic.topic, count, replication, config=dict(topic.kafka_config()))
            )
            continue
        result.present.append(topic.topic)
        if len(found.partitions) != count:
            result.differences.append(
                f"{topic.topic}: found {len(found.partitions)} partitions; expected {count}"
            )
    result.differences.extend(_compare_settings(admin, [t for t in topics if t.topic in there]))
    futures = admin.create_topics(wanted, operation_timeout=_TIMEOUT_S) if wanted else {}
    for name, future in futures.items():
        try:
            future.result(timeout=_TIMEOUT_S)
        except KafkaException as err:
            error: KafkaError = err.args[0]
            if error.code() == KafkaError.TOPIC_ALREADY_EXISTS:
                result.present.append(name)
                continue
            raise PermanentError(
                do="create",
                kind="topic",
                name=name,
                where=f"at {bootstrap_servers}",
                found=f"Kafka error {error.name()}",
                hint="see the broker's log, or its authoriser",
            ) from None
        result.created.append(name)
    return result


def _compare_settings(admin: AdminClient, topics: Sequence[Topic]) -> Iterator[str]:
    """Tell where the settings of topics that are there are not those of the data."""
    if not topics:
        return
    asked = [ConfigResource(ResourceType.TOPIC, topic.topic) for topic in topics]
    answers = admin.describe_configs(asked, request_timeout=_TIMEOUT_S)
    by_name = {resource.name: future for resource, future in answers.items()}
    for topic in topics:
        try:
            found = by_name[topic.topic].result(timeout=_TIMEOUT_S)
        except KafkaException as err:
            yield f"{topic.topic}: found Kafka error {err.args[0].name()} instead of its settings"
            continue
        for name, expected in topic.kafka_config().items():
            text = found[name].value if name in found else "nothing"
            if text != expected:
                yield f"{topic.topic}: found {name} {text}; expected {expected}"
