"""Apache Kafka and ClickHouse in containers, for machines where a Docker engine answers.

The images and their settings are those of `infra/compose.yaml`, so that what a developer starts by
hand and what the tests run on are the same.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Self, cast
from urllib.request import urlopen

import yaml
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from testcontainers.core.container import DockerContainer

from connectors.embedded.child import free_port
from schemas.errors import TransientError
from tests.services_kafka import NO_RETENTION_MS

COMPOSE: Final = Path(__file__).parents[1] / "infra" / "compose.yaml"
START_SECONDS_MAX: Final = 120
ENGINE_SECONDS_MAX: Final = 5


def docker_absence() -> str:
    """Say why containers cannot be started here; empty when a Docker engine answers.

    Asked in a child: the client library leaves its socket open when nobody answers, and a test run
    that treats warnings as errors would fail for it.
    """
    program = f"import docker; docker.from_env(timeout={ENGINE_SECONDS_MAX}).ping()"
    asked = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    return "no Docker engine answers" if asked.returncode else ""


def compose_service(name: str) -> Mapping[str, Any]:
    """One service of `infra/compose.yaml`: its image, environment and so on."""
    found = yaml.safe_load(COMPOSE.read_text())["services"][name]
    return cast("Mapping[str, Any]", found)


class ContainerService:
    """One service of the compose file, as a container with one port on loopback.

    Errors: `TransientError` when it does not answer in two minutes.
    """

    def __init__(self, service: str, *, port_inside: int) -> None:
        self._service = service
        self._port_inside = port_inside
        self._container: DockerContainer | None = None
        self.port = free_port()

    def __enter__(self) -> Self:
        """Start it."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Remove it."""
        self.stop()

    def start(self) -> None:
        """Create the container, or start the stopped one, and wait until it answers clients."""
        if self._container is None:
            described = compose_service(self._service)
            container = DockerContainer(str(described["image"]))
            container.with_envs(**self._environment(described["environment"]))
            # The library's own method binds every interface; the engine takes an address as well.
            cast("dict[str, Any]", container.ports)[f"{self._port_inside}/tcp"] = (
                "127.0.0.1",
                self.port,
            )
            self._container = container.start()
        else:
            self._container.get_wrapped_container().start()
        deadline = time.monotonic() + START_SECONDS_MAX
        while not self._answers():
            if time.monotonic() > deadline:
                self.stop()
                raise TransientError(
                    do="start",
                    kind="container",
                    name=self._service,
                    found=f"no answer in {START_SECONDS_MAX} s",
                )
            time.sleep(0.2)

    def stop(self) -> None:
        """Remove the container and its data; harmless when there is none."""
        if self._container is not None:
            self._container.stop()
            self._container = None

    def kill(self) -> None:
        """Crash it; `start` brings it back with its data."""
        self._running.kill()

    def restart(self) -> None:
        """Stop cleanly and start again with the same port and data."""
        self._running.stop()
        self.start()

    def pause(self) -> None:
        """Freeze it: connections stay open, nothing answers."""
        self._running.pause()

    def resume(self) -> None:
        """Let it go on after `pause`."""
        self._running.unpause()

    @property
    def _running(self) -> Any:
        assert self._container is not None
        return self._container.get_wrapped_container()

    def _environment(self, described: Mapping[str, Any]) -> dict[str, str]:
        return {key: str(value) for key, value in described.items()}

    def _answers(self) -> bool:
        try:
            with urlopen(f"http://127.0.0.1:{self.port}/ping", timeout=1) as answer:
                return bool(answer.read().startswith(b"Ok"))
        except OSError:
            return False


class KafkaContainer(ContainerService):
    """Apache Kafka's own image, one node."""

    def __init__(self) -> None:
        super().__init__("kafka", port_inside=9092)

    @property
    def bootstrap_servers(self) -> str:
        """The address for clients."""
        return f"127.0.0.1:{self.port}"

    def _environment(self, described: Mapping[str, Any]) -> dict[str, str]:
        # The broker talks to itself on its internal listener, which must be advertised as well.
        advertised = f"PLAINTEXT://{self.bootstrap_servers},INTERNAL://localhost:19092"
        return {
            **super()._environment(described),
            "KAFKA_ADVERTISED_LISTENERS": advertised,
            "KAFKA_LOG_RETENTION_CHECK_INTERVAL_MS": NO_RETENTION_MS,
            "KAFKA_LOG_INITIAL_TASK_DELAY_MS": NO_RETENTION_MS,
        }

    def _answers(self) -> bool:
        client = AdminClient({"bootstrap.servers": self.bootstrap_servers, "log_level": 0})
        try:
            return bool(client.list_topics(timeout=1).brokers)
        except KafkaException:
            return False


class ClickHouseContainer(ContainerService):
    """ClickHouse's own image, one server."""

    def __init__(self) -> None:
        super().__init__("clickhouse", port_inside=8123)

    @property
    def dsn(self) -> str:
        """The address for clients."""
        return f"http://127.0.0.1:{self.port}"
