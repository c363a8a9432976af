"""The columns of the tables of delivery times, as Arrow types."""

from __future__ import annotations

from typing import Final

import pyarrow as pa

from connectors.clickhouse.columns import COUNT, MS, REAL, TEXT, Table

_ODDS: Final = pa.list_(pa.struct([("slot", pa.uint8()), ("propensity", REAL)]))
_SLOTS: Final = pa.list_(
    pa.struct(
        [
            ("bin", pa.uint8()),
            ("lift", REAL),
            ("error", REAL),
            ("log_e", REAL),
            ("found", pa.bool_()),
        ]
    )
)

TIMING_TABLES: Final[dict[str, Table]] = {
    "decisions": Table(
        pa.schema(
            [
                ("decision_id", TEXT),
                ("event_id", TEXT),
                ("requested_at", MS),
                ("journey", TEXT),
                ("subject", TEXT),
                ("campaign", TEXT),
                ("channel", TEXT),
                ("arm", TEXT),
                ("decided_at", MS),
                ("chosen_at", MS),
                ("chosen_slot", pa.uint8()),
                ("propensity", REAL),
                ("allowed", pa.binary(21)),
                ("alternatives", _ODDS),
                ("score", REAL),
                ("reason", TEXT),
                ("model", TEXT),
                ("model_version", TEXT),
                ("policy", pa.uint32()),
                ("expires_at", pa.date32()),
                ("ver", pa.uint64()),
            ]
        )
    ),
    "decision_outcomes": Table(
        pa.schema(
            [
                ("decision_id", TEXT),
                ("requested_at", MS),
                ("campaign", TEXT),
                ("subject", TEXT),
                ("responded", pa.uint8()),
                ("responded_at", MS),
                ("corrected", pa.uint8()),
                ("expires_at", pa.date32()),
                ("ver", pa.uint64()),
            ]
        ),
        key=("campaign", "requested_at", "decision_id"),
    ),
    "experiments": Table(
        pa.schema(
            [
                ("experiment", TEXT),
                ("started_at", MS),
                ("holdout_share", REAL),
                ("interest", REAL),
                ("alpha", REAL),
                ("state", TEXT),
                ("decided_at", MS),
                ("ver", pa.uint64()),
            ]
        ),
        key=("experiment", "started_at"),
    ),
    "experiment_results": Table(
        pa.schema(
            [
                ("experiment", TEXT),
                ("at", MS),
                ("state", TEXT),
                ("lift", REAL),
                ("low", REAL),
                ("high", REAL),
                ("detectable", REAL),
                ("sends_needed", COUNT),
                ("log_e", REAL),
                ("optimised_subjects", COUNT),
                ("optimised_sends", COUNT),
                ("optimised_answers", COUNT),
                ("optimised_value", REAL),
                ("holdout_subjects", COUNT),
                ("holdout_sends", COUNT),
                ("holdout_answers", COUNT),
                ("holdout_value", REAL),
                ("left_out", COUNT),
                ("split_log_e", REAL),
                ("split_wrong", pa.bool_()),
                ("cluster_looks", pa.uint32()),
                ("cluster_log_e", REAL),
                ("clusters_exist", pa.bool_()),
                ("slots_differ", pa.bool_()),
                ("slots", _SLOTS),
                ("ver", pa.uint64()),
            ]
        ),
        key=("experiment", "at"),
    ),
    "rhythm_clusters": Table(
        pa.schema(
            [
                ("lane", pa.uint16()),
                ("cluster", pa.uint8()),
                ("at", MS),
                ("learned", COUNT),
                ("people", COUNT),
                ("sends", COUNT),
                ("responses", COUNT),
                ("hours", pa.list_(REAL)),
                ("expires_at", pa.date32()),
                ("ver", COUNT),
            ]
        ),
        key=("lane", "cluster"),
    ),
}
