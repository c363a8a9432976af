"""The columns that we write, as Arrow types; a test compares them with the migrated tables."""

from __future__ import annotations

from typing import Final

import pyarrow as pa

from connectors.clickhouse.columns import COUNT as _COUNT
from connectors.clickhouse.columns import MS as _MS
from connectors.clickhouse.columns import REAL as _REAL
from connectors.clickhouse.columns import TEXT as _TEXT
from connectors.clickhouse.columns import WORDS as _WORDS
from connectors.clickhouse.columns import Table
from connectors.clickhouse.tables_timing import TIMING_TABLES

__all__ = ["TABLES", "Table"]

_HOPS: Final = pa.list_(
    pa.struct(
        [("stage", pa.string()), ("node", pa.string()), ("ms", pa.uint64()), ("act", pa.string())]
    )
)

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
                ("late", pa.uint64()),
                ("n", pa.uint64()),
                ("amount_minor", pa.int64()),
                ("latency_hist", pa.list_(pa.uint64())),
                ("recorded_at", _MS),
                ("ver", pa.uint64()),
            ]
        ),
        key=("w", "event_type", "campaign", "channel", "class", "currency", "lane", "arm", "late"),
    ),
    "journeys": Table(
        pa.schema(
            [
                ("journey", _TEXT),
                ("subject", _TEXT),
                ("notification", _TEXT),
                ("campaign", _TEXT),
                ("tenant", _TEXT),
                ("channel", _TEXT),
                ("arm", _TEXT),
                ("purpose", _TEXT),
                ("class", _TEXT),
                ("sensitivity", pa.uint8()),
                ("stage", _TEXT),
                ("rank", pa.uint8()),
                ("state", _TEXT),
                ("started_at", _MS),
                ("last_at", _MS),
                ("n", pa.uint32()),
                ("acts", _WORDS),
                ("at", pa.list_(_MS)),
                ("hops", pa.uint16()),
                ("propensity", pa.float64()),
                ("amount_minor", pa.int64()),
                ("refunded_minor", pa.int64()),
                ("currency", _TEXT),
                ("opened_human", pa.bool_()),
                ("opened_machine", pa.bool_()),
                ("clicked", pa.bool_()),
                ("converted", pa.bool_()),
                ("expires_at", pa.date32()),
                ("ver", pa.uint64()),
            ]
        ),
        key=("journey",),
    ),
    "outcomes": Table(
        pa.schema(
            [
                ("outcome_id", _TEXT),
                ("model", _TEXT),
                ("slot", pa.uint16()),
                ("kind", _TEXT),
                ("at", _MS),
                ("journey", _TEXT),
                ("notification", _TEXT),
                ("subject", _TEXT),
                ("campaign", _TEXT),
                ("channel", _TEXT),
                ("arm", _TEXT),
                ("purpose", _TEXT),
                ("class", _TEXT),
                ("sensitivity", pa.uint8()),
                ("amount_minor", pa.int64()),
                ("currency", _TEXT),
                ("to_journey", _TEXT),
                ("to_campaign", _TEXT),
                ("to_notification", _TEXT),
                ("weight", pa.float64()),
                ("touches", pa.uint16()),
                ("window_s", pa.uint32()),
                ("expires_at", pa.date32()),
                ("ver", pa.uint64()),
            ]
        ),
        key=("outcome_id", "model", "slot"),
    ),
    "quality": Table(
        pa.schema(
            [
                ("w", _MS),
                ("dataset", _TEXT),
                ("producer", _TEXT),
                ("rule", _TEXT),
                ("dimension", _TEXT),
                ("checked", _COUNT),
                ("failed", _COUNT),
                ("severity", _TEXT),
                ("lane", pa.uint16()),
                ("ver", _COUNT),
            ]
        ),
        key=("w", "dataset", "producer", "rule", "lane"),
    ),
    "anomalies": Table(
        pa.schema(
            [
                ("w", _MS),
                ("dataset", _TEXT),
                ("producer", _TEXT),
                ("kind", _TEXT),
                ("lane", pa.uint16()),
                ("expected", _REAL),
                ("observed", _REAL),
                ("score", _REAL),
                ("ver", _COUNT),
            ]
        ),
        key=("w", "dataset", "producer", "kind", "lane"),
    ),
    "lineage_edges": Table(
        pa.schema(
            [
                ("from_node", _TEXT),
                ("to_node", _TEXT),
                ("lane", pa.uint16()),
                ("declared", pa.bool_()),
                ("n", _COUNT),
                ("first_at", _MS),
                ("last_at", _MS),
                ("ver", _COUNT),
            ]
        ),
        key=("from_node", "to_node", "lane"),
    ),
    "process_exceptions": Table(
        pa.schema(
            [
                ("journey", _TEXT),
                ("rule", _TEXT),
                ("at", _MS),
                ("kind", _TEXT),
                ("process", _TEXT),
                ("act", _TEXT),
                ("previous", _TEXT),
                ("allowed_s", pa.uint32()),
                ("notification", _TEXT),
                ("subject", _TEXT),
                ("campaign", _TEXT),
                ("tenant", _TEXT),
                ("channel", _TEXT),
                ("arm", _TEXT),
                ("purpose", _TEXT),
                ("class", _TEXT),
                ("sensitivity", pa.uint8()),
                ("expires_at", pa.date32()),
                ("ver", pa.uint64()),
            ]
        ),
        key=("journey", "rule", "at"),
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
    **TIMING_TABLES,
}
