"""Apply numbered SQL files, each once, in order.

Our own, since the well-kept migration libraries for ClickHouse speak its native protocol, and we
have HTTP only; the rules are theirs: numbered, checked by hash, never edited once applied.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Final, NamedTuple

import structlog
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from connectors.clickhouse.client import error_code
from schemas.errors import ConfigError, PermanentError

_log = structlog.get_logger(__name__)

_NAME: Final = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")
_ALREADY_THERE: Final = 57
_JOURNAL: Final = """
CREATE TABLE IF NOT EXISTS migrations
(
    number UInt32,
    name String,
    sha256 String,
    applied_at DateTime DEFAULT now()
)
ENGINE = ReplacingMergeTree
ORDER BY number
COMMENT 'Migrations that were applied'
"""


class Migration(NamedTuple):
    """One file: its number, name, hash, and statements."""

    number: int
    name: str
    sha256: str
    statements: tuple[str, ...]


def read_migrations(folder: Path) -> list[Migration]:
    """Read the files in order.

    Errors: ConfigError for a name without a number, a number twice, or a gap.
    """
    found: list[Migration] = []
    for path in sorted(folder.glob("*.sql")):
        match = _NAME.fullmatch(path.name)
        text = path.read_text(encoding="utf-8")
        if match is None or int(match[1]) != len(found) + 1:
            raise ConfigError(
                do="read",
                kind="migration",
                name=path.name,
                expected=f"a name that starts with {len(found) + 1:04d}_",
            )
        digest = hashlib.sha256(text.encode()).hexdigest()
        found.append(Migration(int(match[1]), path.name, digest, split_statements(text)))
    return found


def split_statements(text: str) -> tuple[str, ...]:
    r"""Split SQL at the semicolons that end a line; comment lines are left out.

    >>> split_statements("-- a\nSELECT 1;\nSELECT ';';\n")
    ('SELECT 1', "SELECT ';'")
    """
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("--")]
    parts = re.split(r";[ \t]*(?:\n|$)", "\n".join(lines))
    return tuple(part.strip() for part in parts if part.strip())


def apply_migrations(client: Client, migrations: list[Migration]) -> list[str]:
    """Apply what was not applied yet, and give the names of it.

    Delivery: safe to repeat; a file that was cut short is taken up again, since a table that is
    already there is passed over.
    Errors: ConfigError for an applied file that was edited; PermanentError for SQL that fails.
    """
    client.command(_JOURNAL)
    rows = client.query("SELECT number, sha256 FROM migrations FINAL").result_rows
    applied = {int(number): str(digest) for number, digest in rows}
    done = []
    for migration in migrations:
        known = applied.get(migration.number)
        if known is None:
            _apply(client, migration)
            done.append(migration.name)
        elif known != migration.sha256:
            raise ConfigError(
                do="trust",
                kind="migration",
                name=migration.name,
                found="another content than was applied",
                hint="restore the file and put the change into a new one",
            )
    return done


def _apply(client: Client, migration: Migration) -> None:
    for number, statement in enumerate(migration.statements, 1):
        try:
            client.command(statement)
        except ClickHouseError as err:
            code = error_code(err)
            if code == _ALREADY_THERE:
                continue
            raise PermanentError(
                do="apply",
                kind="migration",
                name=migration.name,
                where=f"at statement {number}",
                found=f"ClickHouse error {code}",
                hint="see ClickHouse's log",
            ) from None
    client.insert(
        "migrations",
        [[migration.number, migration.name, migration.sha256]],
        column_names=["number", "name", "sha256"],
    )
    _log.info("migration_applied", name=migration.name)
