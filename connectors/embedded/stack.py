"""The whole embedded stack: broker and ClickHouse, started and stopped as one."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from connectors.embedded.broker import EmbeddedBroker
from connectors.embedded.clickhouse import EmbeddedClickHouse
from connectors.embedded.folder import FolderLock


class EmbeddedStack:
    """Both servers in one data folder; neither outlives this process.

    Delivery: at least once; the broker forgets everything when it stops, ClickHouse nothing.
    Errors: `ConfigError` when it cannot work here; `TransientError` when a server died.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        kafka_port: int = 0,
        clickhouse_port: int = 0,
        faults: bool = False,
    ) -> None:
        self._folder = FolderLock(data_dir.absolute())
        self.broker = EmbeddedBroker(kafka_port, data_dir=data_dir)
        self.clickhouse = EmbeddedClickHouse(clickhouse_port, data_dir=data_dir, faults=faults)
        self._running = ExitStack()

    @property
    def bootstrap_servers(self) -> str:
        """The broker's address, as Kafka clients want it."""
        return self.broker.bootstrap_servers

    @property
    def clickhouse_url(self) -> str:
        """The address of ClickHouse's HTTP endpoint."""
        return self.clickhouse.dsn

    def start(self) -> None:
        """Start both; when one fails, what was started is stopped again."""
        with ExitStack() as starting:
            starting.enter_context(self._folder)
            starting.enter_context(self.broker)
            starting.enter_context(self.clickhouse)
            self._running = starting.pop_all()

    def check(self) -> None:
        """Raise when a server has died."""
        self.broker.child.check()
        self.clickhouse.child.check()

    def stop(self) -> None:
        """Stop both. Safe to repeat."""
        self._running.pop_all().close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
