"""`apply_topics` on a running Kafka: makes what is missing, tells what differs."""

from __future__ import annotations

from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from connectors.kafka.topics import apply_topics
from schemas.topics_catalog import Topic, load_topics
from tests.services import KafkaService


def own_topic(prefix: str) -> Topic:
    return load_topics()["ntf.late.v1"].model_copy(update={"topic": f"{prefix}late"})


def test_what_was_made_from_the_data_does_not_differ_from_it(
    kafka: KafkaService, topic_prefix: str
) -> None:
    topic = own_topic(topic_prefix)
    first = apply_topics([topic], bootstrap_servers=kafka.bootstrap_servers)
    again = apply_topics([topic], bootstrap_servers=kafka.bootstrap_servers)

    assert ([topic.topic], [], []) == first
    assert ([], [topic.topic], []) == again


def test_each_setting_that_differs_is_told(kafka: KafkaService, topic_prefix: str) -> None:
    """A topic that takes smaller records than the sink may send stops the worker one day."""
    topic = own_topic(topic_prefix)
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    config = {**topic.kafka_config(), "max.message.bytes": "1000000", "retention.ms": "60000"}
    for made in admin.create_topics([NewTopic(topic.topic, 3, 1, config=config)]).values():
        made.result(timeout=30)

    assert [
        f"{topic.topic}: found 3 partitions; expected 12",
        f"{topic.topic}: found max.message.bytes 1000000; expected 5242880",
        f"{topic.topic}: found retention.ms 60000; expected 604800000",
    ] == apply_topics([topic], bootstrap_servers=kafka.bootstrap_servers).differences
