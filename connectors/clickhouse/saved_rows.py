"""Rows that ClickHouse has not confirmed, as bytes with a version in a recovery store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
import pyarrow as pa

from connectors.clickhouse.tables import TABLES
from schemas.errors import PermanentError

STATE_VERSION: Final = 1


def dump_rows(tables: Mapping[str, Sequence[pa.RecordBatch]]) -> bytes:
    """The rows of some tables as a state."""
    rows = {table: _to_bytes(batches) for table, batches in tables.items()}
    return msgspec.msgpack.encode({"version": STATE_VERSION, "rows": rows})


def read_rows(state: bytes) -> dict[str, list[pa.RecordBatch]]:
    """The rows of a saved state, by table.

    Errors: PermanentError for what this release did not write.
    """
    version = version_of(state)
    if version != STATE_VERSION:
        raise _unreadable(f"version {version}")
    rows: dict[str, bytes] = msgspec.msgpack.decode(state)["rows"]
    for table in rows:
        if table not in TABLES:
            raise _unreadable(f"rows of table {table}")
    return {
        table: [_aligned(batch, table) for batch in pa.ipc.open_stream(told)]
        for table, told in rows.items()
    }


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
        expected=f"version {STATE_VERSION}, of tables of this release",
        hint="run the release that wrote them until it stops by itself, then this one",
    )


def _to_bytes(batches: Sequence[pa.RecordBatch]) -> bytes:
    out = pa.BufferOutputStream()
    with pa.ipc.new_stream(out, batches[0].schema) as stream:
        for batch in batches:
            stream.write_batch(batch)
    told: bytes = out.getvalue().to_pybytes()
    return told
