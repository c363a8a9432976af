"""Where a partition ends: a client that does not know it yet is asked again."""

from __future__ import annotations

from typing import Any, cast

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from connectors.kafka.ends import read_end
from schemas.errors import TransientError

PLACE = ("profiles", 3)


class Client:
    """A consumer that knows the partition only after so many looks at the cluster."""

    def __init__(self, looks: int) -> None:
        self.looks = looks
        self.looked: list[str] = []

    def get_watermark_offsets(self, part: TopicPartition, timeout: float) -> tuple[int, int]:
        assert timeout > 0
        assert PLACE == (part.topic, part.partition)
        if len(self.looked) < self.looks:
            raise KafkaException(KafkaError(KafkaError._UNKNOWN_PARTITION))
        return 2, 17

    def list_topics(self, topic: str, timeout: float) -> Any:
        assert timeout > 0
        self.looked.append(topic)
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT))


@pytest.mark.parametrize(("looks", "waits"), [(0, []), (2, [0.1, 0.2])])
def test_a_client_that_does_not_know_the_partition_yet_is_asked_again(
    looks: int, waits: list[float]
) -> None:
    client, waited = Client(looks), list[float]()

    assert read_end(cast("Consumer", client), PLACE, sleep=waited.append) == 17
    assert waits == waited
    assert [PLACE[0]] * looks == client.looked


def test_a_partition_that_stays_unknown_is_named_with_the_clients_word() -> None:
    client, waited = Client(99), list[float]()

    with pytest.raises(TransientError, match=r"profiles/3.*_UNKNOWN_PARTITION"):
        read_end(cast("Consumer", client), PLACE, sleep=waited.append)
    assert sum(waited) == pytest.approx(11.3)
