"""Fixtures that hand tests a Kafka and a ClickHouse, and the line that names them at the end."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NoReturn, cast
from urllib.parse import quote
from urllib.request import Request, urlopen

import pytest
import structlog
from hypothesis import settings as hypothesis_settings

from connectors.clickhouse.client import ClickHouseAddress
from connectors.native.level import Wish, find_fault
from tests.services import (
    ANY_KAFKA,
    REAL_KAFKA,
    REQUIRE_KAFKA,
    REQUIRE_NATIVE,
    Breakable,
    ClickHouseService,
    KafkaService,
    Kind,
    ServiceRack,
    Unavailable,
    real_kafka_node,
)
from tests.table_room import TableRoom

RACK: Final = pytest.StashKey[ServiceRack]()
FIXTURE_MARKS: Final = {
    "kafka_service": "kafka",
    "kafka": "kafka",
    "real_kafka": "real_kafka",
    "breakable_kafka": "real_kafka",
    "embedded_kafka": "embedded_kafka",
    "clickhouse_service": "clickhouse",
    "clickhouse_database": "clickhouse",
    "clickhouse_tables": "clickhouse",
}


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "embedded_kafka: runs on the embedded broker only")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test by the services it asks for, so that `-m real_kafka` never misses one."""
    for item in items:
        for fixture in getattr(item, "fixturenames", ()):
            if fixture in FIXTURE_MARKS:
                item.add_marker(FIXTURE_MARKS[fixture])


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    rack = config.stash.get(RACK, None)
    if rack is not None:
        terminalreporter.write_line(f"services: {rack.report()}")


# An example that takes long on a busy machine is no fault of the code.
hypothesis_settings.register_profile("airside", deadline=None)
hypothesis_settings.load_profile("airside")


@pytest.fixture(scope="session")
def service_rack(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServiceRack]:
    """The one owner of all shared services; they start when first asked for."""
    rack = ServiceRack(tmp_path_factory.mktemp("services"), os.environ)
    request.config.stash[RACK] = rack
    yield rack
    rack.close()


@pytest.fixture(scope="session")
def real_kafka(service_rack: ServiceRack) -> KafkaService:
    """Apache Kafka itself: exactly-once may be claimed here. Skips where it is not."""
    return service_rack.kafka(_real_kafka_kind(service_rack))


@pytest.fixture(scope="session")
def embedded_kafka(service_rack: ServiceRack) -> KafkaService:
    """The embedded broker, whatever else there is."""
    chosen = service_rack.choose_kafka([Kind.EMBEDDED])
    if isinstance(chosen, Unavailable):
        _skip("the embedded broker", chosen.reason)
    return service_rack.kafka(chosen)


@pytest.fixture(scope="session")
def kafka_service(service_rack: ServiceRack) -> KafkaService:
    """The best Kafka there is; where CI demands Kafka itself, nothing less."""
    if os.environ.get(REQUIRE_KAFKA) == "1":
        return service_rack.kafka(_real_kafka_kind(service_rack))
    chosen = service_rack.choose_kafka(ANY_KAFKA)
    if isinstance(chosen, Unavailable):
        _skip("a Kafka", chosen.reason)
    return service_rack.kafka(chosen)


@pytest.fixture(
    params=[
        pytest.param("embedded_kafka", id="embedded", marks=pytest.mark.embedded_kafka),
        pytest.param("real_kafka", id="real", marks=pytest.mark.real_kafka),
    ]
)
def kafka(request: pytest.FixtureRequest) -> KafkaService:
    """Each kind of Kafka in turn: the same test runs on both."""
    service = request.getfixturevalue(request.param)
    assert isinstance(service, KafkaService)
    return service


@pytest.fixture(params=["pure", "native"])
def level(request: pytest.FixtureRequest) -> Wish:
    """Each level in turn: what holds for one holds for both."""
    if request.param == "native":
        fault = find_fault()
        if fault is not None and os.environ.get(REQUIRE_NATIVE) == "1":
            pytest.fail(f"{REQUIRE_NATIVE}=1, and {fault}", pytrace=False)
        if fault is not None:
            _skip("the native library", f"{fault}: run `just native`")
    return cast("Wish", request.param)


@pytest.fixture
def breakable_kafka(service_rack: ServiceRack, tmp_path: Path) -> Iterator[Breakable]:
    """A real Kafka of the test's own, to kill, freeze and restart."""
    with real_kafka_node(_real_kafka_kind(service_rack), tmp_path / "kafka") as node:
        yield node


@pytest.fixture(scope="session")
def clickhouse_service(service_rack: ServiceRack) -> ClickHouseService:
    """The best ClickHouse there is."""
    chosen = service_rack.choose_clickhouse()
    if isinstance(chosen, Unavailable):
        _skip("a ClickHouse", chosen.reason)
    return service_rack.clickhouse(chosen)


@pytest.fixture
def clickhouse_database(clickhouse_service: ClickHouseService) -> Iterator[str]:
    """The name of a fresh, empty database, dropped afterwards."""
    name = _unique("test")
    _tell_clickhouse(clickhouse_service, f"CREATE DATABASE {name} ENGINE = Atomic")
    yield name
    _tell_clickhouse(clickhouse_service, f"DROP DATABASE {name} SYNC")


@pytest.fixture(scope="session")
def table_room(clickhouse_service: ClickHouseService) -> Iterator[TableRoom]:
    """A database that is migrated once: that takes a second, and emptying it a quarter of one."""
    room = TableRoom(ClickHouseAddress(clickhouse_service.dsn, _unique("tables")))
    yield room
    room.give_up()


@pytest.fixture
def clickhouse_tables(table_room: TableRoom) -> ClickHouseAddress:
    """A migrated database whose tables are empty."""
    table_room.tidy_up()
    return table_room.address


@pytest.fixture
def topic_prefix(request: pytest.FixtureRequest) -> str:
    """A legal beginning for topic, group and transactional names that no other test uses."""
    words = re.sub(r"[^a-z0-9]+", "-", str(request.node.name).lower()).strip("-")
    return _unique(words[:60]).replace("_", "-") + "."


def _real_kafka_kind(rack: ServiceRack) -> Kind:
    chosen = rack.choose_kafka(REAL_KAFKA)
    if isinstance(chosen, Unavailable):
        if os.environ.get(REQUIRE_KAFKA) == "1":
            pytest.fail(f"{REQUIRE_KAFKA}=1 and no Apache Kafka: {chosen.reason}", pytrace=False)
        _skip("Apache Kafka itself", chosen.reason)
    return chosen


def _skip(what: str, reason: str) -> NoReturn:
    pytest.skip(f"needs {what}: {reason}")


def _unique(stem: str) -> str:
    return f"{stem}_{uuid.uuid4().hex[:12]}"


def _tell_clickhouse(service: ClickHouseService, statement: str) -> None:
    order = Request(f"{service.dsn}/?query={quote(statement)}", data=b"", method="POST")
    with urlopen(order, timeout=30) as answer:
        answer.read()


@pytest.fixture(autouse=True)
def _log_anew() -> Iterator[None]:
    """A command that a test ran here has set up the log on a stream that ends with that test."""
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
