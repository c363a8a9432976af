"""The look for open transactions has a bound; what it finds is tried on Apache Kafka."""

from __future__ import annotations

import pytest
from confluent_kafka import KafkaException

from connectors.embedded.child import free_port
from connectors.kafka.client import QUIET
from connectors.kafka.forgotten import find_open


def test_a_broker_that_is_away_is_asked_for_so_long_and_no_longer() -> None:
    config = {"bootstrap.servers": f"127.0.0.1:{free_port()}", "logger": QUIET, "log_level": 0}

    with pytest.raises(KafkaException):
        find_open(config, ["t"], wait_s_max=0.5)
