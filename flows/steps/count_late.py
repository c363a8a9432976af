"""Count apart what may come when its minute's cell is closed: a row of its own for each event.

Only profiles come so late: a stream's event is refused then. A closed cell is in no memory any
more, so what it says cannot be raised; but rows add up, and one that is named after its record's
place is the same row however often it is written.
"""

from __future__ import annotations

from operator import attrgetter
from typing import Any, Final

import numpy as np

from flows.steps.write_facts import Accepted, Mask
from schemas.blocks import Rows
from schemas.rollup import HISTOGRAM_BUCKETS, MINUTE_MS, buckets_of

PLACE_BITS: Final = 40
"""`late` is `partition << 40 | offset`, and one more, since 0 is a lane's cell."""


def late_of(events: Accepted, *, floor_minute: int, lateness_ms_max: int) -> Mask:
    """Which of these events are counted apart.

    By their own times first: that says the same whatever the lane remembers, so a lane that begins
    anew writes the same rows. And whatever else comes for a minute that is closed.
    """
    times = events.tickets.times_ms
    late: Mask = events.recorded_ms - times > lateness_ms_max
    return late | (times // MINUTE_MS < floor_minute)


def late_rows(events: Accepted, *, lane: int) -> Rows:
    """A row of `rollup_1m_lanes` for each event. Delivery: safe to repeat, in whatever blocks."""
    count = len(events)
    times = events.tickets.times_ms
    histograms = np.zeros((count, HISTOGRAM_BUCKETS), np.int64)
    histograms[np.arange(count), buckets_of(events.recorded_ms - times)] = 1
    columns: dict[str, Any] = {
        "w": times // MINUTE_MS * MINUTE_MS,
        "event_type": events.by_label(attrgetter("type")),
        "class": events.by_label(attrgetter("class_text")),
        "lane": np.full(count, lane, np.uint16),
        "late": ((events.partitions << PLACE_BITS) + events.offsets + 1).astype(np.uint64),
        "n": np.ones(count, np.int64),
        "amount_minor": events.amounts(),
        "latency_hist": histograms,
        "recorded_at": events.recorded_ms,
        "ver": np.ones(count, np.uint64),
    }
    for name in ("campaign", "channel", "currency", "arm"):
        columns[name] = events.words(name)
    return Rows("rollup_1m_lanes", count, columns)
