"""All metrics: name, type, unit, meaning, and what to do when one moves."""

from __future__ import annotations

import resource
import sys
from typing import Final

from prometheus_client import Counter, Gauge, Histogram, start_http_server

from schemas.errors import ConfigError

MESSAGES: Final = Counter(
    "airside_messages",
    "Messages decided, by topic, door and code. A rising share of one code: tell its producer.",
    ["topic", "door", "code"],
)
LEFT_OUT: Final = Counter(
    "airside_routed_left_out",
    "Messages of routed topics that a follower left out, by code. T602 are repeats of an"
    " at-least-once gate; any other: who else writes to this topic?",
    ["topic", "code"],
)
LAG: Final = Gauge(
    "airside_lane_lag_messages",
    "Messages not yet read in a lane. Rising for minutes: start more cells.",
    ["lane"],
)
WATERMARK: Final = Gauge(
    "airside_lane_watermark_seconds",
    "Event time, since 1970, that a lane has reached. Standing still with lag: look at the worker.",
    ["lane"],
)
QUARANTINE_RUN: Final = Gauge(
    "airside_quarantine_run_messages",
    "Messages quarantined in a row, the longest open run of a lane. Rising: the worker stops at"
    " AIRSIDE_LIMIT__RUN_MAX; tell the producer.",
    ["lane"],
)
QUARANTINE_SHARE: Final = Gauge(
    "airside_quarantine_share_ratio",
    "Share of quarantined messages among a lane's last ones. Rising: the worker stops at"
    " AIRSIDE_LIMIT__SHARE_MAX; tell the producers.",
    ["lane"],
)
ROLLUP_CELLS: Final = Gauge(
    "airside_rollup_cells",
    "Rollup cells open in a lane. Near ROLLUP_CELLS_MAX: a campaign that is new in each event.",
    ["lane"],
)
ROWS: Final = Counter(
    "airside_rows_written",
    "Rows that ClickHouse confirmed, by table. Standing still with lag: look at ClickHouse.",
    ["table"],
)
WRITE: Final = Histogram(
    "airside_write_seconds",
    "Seconds of one insert, retries included. Rising: ClickHouse merges too slowly, or is down.",
    ["table"],
)
PUBLISHED: Final = Counter(
    "airside_records_published",
    "Records handed to the producer, by topic. They are confirmed at the end of each epoch.",
    ["topic"],
)
STALL: Final = Histogram(
    "airside_epoch_stall_seconds",
    "Seconds in which a lane read nothing since an epoch was made durable. Near the epoch's own "
    "length: longer epochs, fewer lanes a cell, or a faster ClickHouse.",
    ["lane"],
)
FULL: Final = Counter(
    "airside_epoch_full_seconds",
    "Seconds in which a lane read nothing since its epoch had EPOCH_MESSAGES_MAX messages. Rising"
    " with lag: shorter epochs, or more messages an epoch if memory allows.",
    ["lane"],
)
EPOCHS: Final = Counter(
    "airside_epochs",
    "Epochs whose outputs a lane's sink confirmed. Standing still: nothing becomes durable.",
    ["lane"],
)
DECISIONS: Final = Counter(
    "airside_timing_decisions",
    "Requests for a time, by arm and reason; the arm is none where nothing was decided. Many"
    " no_time_allowed: quiet hours and caps leave nothing before the deadlines.",
    ["arm", "reason"],
)
OUTCOMES: Final = Counter(
    "airside_timing_outcomes",
    "Outcomes learned, by kind. No positive ones: do engagement events arrive?",
    ["kind"],
)
JOURNEYS_OPEN: Final = Gauge(
    "airside_timing_journeys",
    "Messages of a lane whose outcome is not final. Near JOURNEYS_MAX: the oldest are given up.",
    ["lane"],
)
LOG_LOSS: Final = Gauge(
    "airside_timing_log_loss_ratio",
    "Mean log loss of expected responses, before they were learned. Rising: responses change.",
    ["lane", "expected_at"],
)
CALIBRATION: Final = Gauge(
    "airside_timing_calibration_ratio",
    "Mean distance of response rates from expected ones. Rising: the model is behind, or sendings"
    " fail.",
    ["lane", "expected_at"],
)
AUC: Final = Gauge(
    "airside_timing_auc_ratio",
    "How well expected responses rank messages, 0.5 being chance. Falling: as log loss.",
    ["lane", "expected_at"],
)
DRIFTS: Final = Counter(
    "airside_timing_drifts",
    "Blocks in which calibration broke, and half of the past was forgotten. Many: see campaigns.",
    ["lane"],
)
PEAK_MEMORY: Final = Gauge(
    "airside_peak_memory_bytes",
    "Most memory this process ever held. Near the limit: fewer messages an epoch, fewer lanes a"
    " cell, or shorter spans.",
)


def peak_memory_bytes() -> int:
    """The most memory that this process ever held. Units: bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1_024


PEAK_MEMORY.set_function(peak_memory_bytes)


def serve(port: int) -> None:
    """Serve all metrics on loopback for a scraper.

    Errors: ConfigError when the port cannot be had.
    """
    try:
        start_http_server(port, addr="127.0.0.1")
    except (OSError, OverflowError) as err:
        raise ConfigError(
            do="serve",
            kind="metrics",
            where=f"at port {port}",
            found=getattr(err, "strerror", None) or "no such port",
            hint="set another AIRSIDE_METRICS_PORT; each cell takes the next one",
        ) from None
