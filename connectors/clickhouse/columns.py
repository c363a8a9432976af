"""What a table is to us, and the types that columns of many tables have."""

from __future__ import annotations

from typing import Final, NamedTuple

import pyarrow as pa

MS: Final = pa.timestamp("ms", tz="UTC")
TEXT: Final = pa.string()
WORDS: Final = pa.list_(pa.string())
REAL: Final = pa.float64()
COUNT: Final = pa.uint64()


class Table(NamedTuple):
    """One table: its Arrow schema, and its key where later rows replace earlier ones.

    Shapes: `key` empty means that every row is another; else a flush sends one row for each key,
    the one with the greatest `ver`.
    """

    schema: pa.Schema
    key: tuple[str, ...] = ()
