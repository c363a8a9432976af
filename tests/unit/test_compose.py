"""The compose file is well-formed, pinned, on loopback only, and of the releases we test on.

No Docker engine runs here, so the containers themselves are not started by this test.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import pytest
import yaml

from tests.services_containers import COMPOSE
from tests.services_kafka import SETTINGS, kafka_version

COMPOSED: dict[str, Any] = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSED["services"]


def test_the_file_has_kafka_and_clickhouse() -> None:
    assert {"kafka", "clickhouse"} == set(SERVICES)


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_every_published_port_is_on_loopback(name: str) -> None:
    ports = SERVICES[name]["ports"]

    assert ports
    assert [] == [port for port in ports if not str(port).startswith("127.0.0.1:")]


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_every_service_has_a_bounded_health_check_and_keeps_its_data(name: str) -> None:
    service = SERVICES[name]

    assert {"test", "interval", "timeout", "retries"} <= set(service["healthcheck"])
    assert [True] == [mount.split(":")[0] in COMPOSED["volumes"] for mount in service["volumes"]]


def test_the_images_are_the_releases_that_the_tests_run_on() -> None:
    engine = ".".join(version("chdb-core").split(".")[:2])

    assert f"apache/kafka:{kafka_version()}" == SERVICES["kafka"]["image"]
    assert f"clickhouse/clickhouse-server:{engine}" == SERVICES["clickhouse"]["image"]


def test_the_kafka_container_is_set_up_like_the_node_from_maven() -> None:
    environment = SERVICES["kafka"]["environment"]
    for variable, value in environment.items():
        key = variable.removeprefix("KAFKA_").lower().replace("_", ".")
        if key in SETTINGS and key not in {
            "listener.security.protocol.map",
            "inter.broker.listener.name",
        }:
            assert SETTINGS[key] == str(value), variable
