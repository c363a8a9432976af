"""Rows that ClickHouse has not confirmed, as bytes with a version in a recovery store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
import pyarrow as pa

from connectors.clickhouse.gather import Part, to_batch
from connectors.clickhouse.tables import TABLES
from schemas.blocks import Rows
from schemas.errors import PermanentError

STATE_VERSION: Final = 2
VERSIONS_READ: Final = (1, STATE_VERSION)
"""Version 2 also has rows that were no Arrow batch yet, as columns of plain values."""


def dump_rows(tables: Mapping[str, Sequence[Part]]) -> bytes:
    """The rows of some tables as a state."""
    bound = {
        table: _to_bytes([batch for part in parts for batch in part.bound])
        for table, parts in tables.items()
        if any(part.bound for part in parts)
    }
    loose = {
        table: [(part.loose.size, part.loose.columns) for part in parts if part.loose]
        for table, parts in tables.items()
    }
    return msgspec.msgpack.encode({"version": STATE_VERSION, "rows": bound, "loose": loose})


def read_rows(state: bytes) -> dict[str, list[pa.RecordBatch]]:
    """The rows of a saved state, by table.

    Errors: PermanentError for what this release did not write.
    """
    version = version_of(state)
    if version not in VERSIONS_READ:
        raise _unreadable(f"version {version}")
    saved = msgspec.msgpack.decode(state)
    rows: dict[str, list[pa.RecordBatch]] = {}
    for table, told in saved["rows"].items():
        _check(table)
        rows[table] = [_aligned(batch, table) for batch in pa.ipc.open_stream(told)]
    for table, parts in saved.get("loose", {}).items():
        _check(table)
        batches = [_bound(Rows(table, size, columns)) for size, columns in parts]
        if batches:
            rows.setdefault(table, []).extend(batches)
    return rows


def _check(table: str) -> None:
    if table not in TABLES:
        raise _unreadable(f"rows of table {table}")


def _bound(rows: Rows) -> pa.RecordBatch:
    """Rows of any release as a batch: what they did not have is empty or zero."""
    table = TABLES[rows.table]
    columns = {
        field.name: _as_given(
            rows.columns.get(field.name, [_nothing(field.type)] * rows.size), field.type
        )
        for field in table.schema
    }
    try:
        return to_batch(Rows(rows.table, rows.size, columns), table)
    except (pa.ArrowException, TypeError, ValueError):
        raise _unreadable(f"other columns of table {rows.table}") from None


def _as_given(column: list[Any], kind: pa.DataType) -> list[Any]:
    """Groups of named values as they were: where they were saved, a tuple became a list."""
    if pa.types.is_list(kind) and pa.types.is_struct(kind.value_type):
        return [[tuple(one) if isinstance(one, list) else one for one in many] for many in column]
    return column


def _aligned(batch: pa.RecordBatch, table: str) -> pa.RecordBatch:
    """Rows of an earlier release in today's columns: what they did not have is empty or zero."""
    schema = TABLES[table].schema
    if batch.schema == schema:
        return batch
    names = batch.schema.names
    try:
        columns = [
            batch.column(field.name).cast(field.type)
            if field.name in names
            else pa.array([_nothing(field.type)] * batch.num_rows, field.type)
            for field in schema
        ]
    except pa.ArrowException:
        raise _unreadable(f"other columns of table {table}") from None
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _nothing(kind: pa.DataType) -> Any:
    if pa.types.is_string(kind):
        return ""
    if pa.types.is_boolean(kind):
        return False
    if pa.types.is_fixed_size_binary(kind):
        return bytes(kind.byte_width)
    return [] if pa.types.is_nested(kind) else 0


def version_of(state: bytes) -> int:
    """The version of a saved state.

    Errors: PermanentError for bytes without one.
    """
    try:
        return msgspec.msgpack.decode(state, type=_Versioned).version
    except (msgspec.MsgspecError, TypeError):
        raise _unreadable("no rows with a version") from None


class _Versioned(msgspec.Struct):
    version: int


def _unreadable(found: str) -> PermanentError:
    return PermanentError(
        do="resume",
        kind="rows",
        found=found,
        expected="version " + " or ".join(map(str, VERSIONS_READ)) + ", of tables of this release",
        hint="run the release that wrote them until it stops by itself, then this one",
    )


def _to_bytes(batches: Sequence[pa.RecordBatch]) -> bytes:
    out = pa.BufferOutputStream()
    with pa.ipc.new_stream(out, batches[0].schema) as stream:
        for batch in batches:
            stream.write_batch(batch)
    told: bytes = out.getvalue().to_pybytes()
    return told
