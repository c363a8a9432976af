"""Logs of journeys for process mining: written into tables, and read in plain Python."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from clickhouse_connect.driver.client import Client

from connectors.clickhouse.client import ClickHouseAddress, connect
from connectors.clickhouse.migrations import apply_migrations, read_migrations
from connectors.clickhouse.tables import TABLES
from connectors.clickhouse.writer import TableWriter
from flows.places import MIGRATIONS
from schemas.blocks import Rows

Log = Mapping[str, Sequence[tuple[int, str]]]
"""By journey, in order: when, in milliseconds, and what."""


def fresh_database(dsn: str, name: str) -> Client:
    """A client of a database of its own with all tables."""
    client = connect(ClickHouseAddress(dsn, name), create_database=True)
    apply_migrations(client, read_migrations(MIGRATIONS))
    return client


def write_log(
    client: Client, log: Log, *, campaigns: Sequence[str] = ("spring",), state: str = "open"
) -> None:
    """Each journey of a log as its row; campaigns in turn, a person each."""
    filled = {
        "subject": "usr_{}",
        "notification": "ntf-{}",
        "tenant": "harbour",
        "state": state,
        "purpose": "transactional_notice",
        "class": "PII",
        "expires_at": 40_000,
        "ver": 2,
    }
    rows = []
    for number, (journey, told) in enumerate(log.items()):
        row: dict[str, object] = {}
        for field in TABLES["journeys"].schema:
            plain = {"string": "", "bool": False}.get(str(field.type), 0)
            value = filled.get(field.name, plain)
            row[field.name] = value.format(number) if isinstance(value, str) else value
        row |= {
            "journey": journey,
            "campaign": campaigns[number % len(campaigns)],
            "started_at": told[0][0],
            "last_at": told[-1][0],
            "n": len(told),
            "acts": [act for _, act in told],
            "at": [at_ms for at_ms, _ in told],
        }
        rows.append(row)
    columns = {name: [row[name] for row in rows] for name in TABLES["journeys"].schema.names}
    writer = TableWriter(client, rows_max=50_000)
    writer.add(Rows("journeys", len(rows), columns))
    writer.flush()


def follows(log: Log) -> Counter[tuple[str, str]]:
    """How often one act followed another directly, with an empty one at both ends."""
    found: Counter[tuple[str, str]] = Counter()
    for told in log.values():
        acts = ["", *(act for _, act in told), ""]
        found.update(pairwise(acts))
    return found


def log_of(rows: Iterable[Mapping[str, object]]) -> Log:
    """The log that rows of `journeys` hold."""
    found: dict[str, list[tuple[int, str]]] = {}
    for row in rows:
        at, acts = row["at"], row["acts"]
        assert isinstance(at, list)
        assert isinstance(acts, list)
        found[str(row["journey"])] = list(zip(at, acts, strict=True))
    return found
