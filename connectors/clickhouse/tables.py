"""The columns that we write, as Arrow types; a test compares them with the migrated tables."""

from __future__ import annotations

from typing import Final, NamedTuple

import pyarrow as pa

_MS: Final = pa.timestamp("ms", tz="UTC")
_TEXT: Final = pa.string()
_WORDS: Final = pa.list_(pa.string())
_HOPS: Final = pa.list_(
    pa.struct(
        [("stage", pa.string()), ("node", pa.string()), ("ms", pa.uint64()), ("act", pa.string())]
    )
)


class Table(NamedTuple):
    """One table: its Arrow schema, and its key where later rows replace earlier ones.

    Shapes: `key` empty means that every row is another; else a flush sends one row for each key,
    the one with the greatest `ver`.
    """

    schema: pa.Schema
    key: tuple[str, ...] = ()


TABLES: Final[dict[str, Table]] = {
    "facts": Table(
        pa.schema(
            [
                ("event_id", _TEXT),
                ("event_type", _TEXT),
                ("source", _TEXT),
                ("event_time", _MS),
                ("recorded_at", _MS),
                ("purpose", _TEXT),
                ("class", _TEXT),
                ("sensitivity", pa.uint8()),
                ("category", _WORDS),
                ("subject", _TEXT),
                ("journey", _TEXT),
                ("notification", _TEXT),
                ("cause", _TEXT),
                ("trace_id", _TEXT),
                ("hops", _HOPS),
                ("campaign", _TEXT),
                ("tenant", _TEXT),
                ("channel", _TEXT),
                ("arm", _TEXT),
                ("reason", _TEXT),
                ("amount_minor", pa.int64()),
                ("currency", _TEXT),
                ("zone", _TEXT),
                ("local_hour", pa.uint8()),
                ("warnings", _WORDS),
                ("topic", _TEXT),
                ("part", pa.uint32()),
                ("off", pa.uint64()),
                ("expires_at", pa.date32()),
                ("ver", pa.uint64()),
            ]
        )
    ),
    "quarantine": Table(
        pa.schema(
            [
                ("topic", _TEXT),
                ("part", pa.uint32()),
                ("off", pa.uint64()),
                ("recorded_at", _MS),
                ("door", _TEXT),
                ("code", _TEXT),
                ("pointer", _TEXT),
                ("reason", _TEXT),
                ("event_id", _TEXT),
                ("source", _TEXT),
                ("event_type", _TEXT),
                ("purpose", _TEXT),
                ("class", _TEXT),
                ("ver", pa.uint64()),
            ]
        )
    ),
    "rollup_1m_lanes": Table(
        pa.schema(
            [
                ("w", _MS),
                ("event_type", _TEXT),
                ("campaign", _TEXT),
                ("channel", _TEXT),
                ("arm", _TEXT),
                ("class", _TEXT),
                ("currency", _TEXT),
                ("lane", pa.uint16()),
                ("n", pa.uint64()),
                ("amount_minor", pa.int64()),
                ("latency_hist", pa.list_(pa.uint64())),
                ("recorded_at", _MS),
                ("ver", pa.uint64()),
            ]
        ),
        key=("w", "event_type", "campaign", "channel", "class", "currency", "lane", "arm"),
    ),
    "rollup_floors": Table(
        pa.schema([("lane", pa.uint16()), ("floor", _MS), ("ver", pa.uint64())]), key=("lane",)
    ),
    "reconciliations": Table(
        pa.schema(
            [
                ("at", _MS),
                ("scope", _TEXT),
                ("compared", pa.uint64()),
                ("differing", pa.uint64()),
                ("repaired", pa.uint64()),
                ("open", pa.uint64()),
                ("remaining", pa.uint64()),
            ]
        )
    ),
    "fates": Table(
        pa.schema(
            [
                ("topic", _TEXT),
                ("part", pa.uint32()),
                ("run", pa.uint64()),
                ("door", _TEXT),
                ("code", _TEXT),
                ("source", _TEXT),
                ("lane", pa.uint16()),
                ("n", pa.uint64()),
                ("ver", pa.uint64()),
            ]
        ),
        key=("topic", "part", "run", "door", "code", "source", "lane"),
    ),
}
