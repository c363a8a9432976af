"""A migrated database that tests use one after the other."""

from __future__ import annotations

from typing import Final

from connectors.clickhouse.client import ClickHouseAddress, connect
from connectors.clickhouse.migrations import apply_migrations, read_migrations
from flows.places import MIGRATIONS

_TABLES: Final = """
SELECT name, total_rows > 0 FROM system.tables
WHERE database = currentDatabase() AND engine LIKE '%MergeTree' AND name != 'migrations'
"""
_COUNT: Final = "SELECT count() FROM system.tables WHERE database = currentDatabase()"


class TableRoom:
    """The database; a test that took a table away, and not only its rows, costs a new one."""

    def __init__(self, address: ClickHouseAddress) -> None:
        self.address = address
        self._count = 0

    def tidy_up(self) -> None:
        """Empty the tables, or make them."""
        with connect(self.address, create_database=True, tries=2) as client:
            if self._count and client.command(_COUNT) == self._count:
                for name, has_rows in client.query(_TABLES).result_rows:
                    if has_rows:
                        client.command(f"TRUNCATE TABLE `{name}` SYNC")
                return
        self.give_up()
        with connect(self.address, create_database=True, tries=2) as client:
            apply_migrations(client, read_migrations(MIGRATIONS))
            self._count = int(str(client.command(_COUNT)))

    def give_up(self) -> None:
        """Drop the database."""
        elsewhere = ClickHouseAddress(self.address.url, "default")
        with connect(elsewhere, tries=2) as client:
            client.command(f"DROP DATABASE IF EXISTS {self.address.database} SYNC")
