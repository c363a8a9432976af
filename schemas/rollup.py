"""The shape of rollups: what a cell is keyed by, and the latency histogram's buckets."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from schemas.few import are_few
from schemas.tickets import Numbers

MINUTE_MS: Final = 60_000
HISTOGRAM_BUCKETS: Final = 32
"""Bucket 0 holds 0 ms; bucket i holds [2^(i-1), 2^i) ms; the last one holds all that is longer."""


class Dimensions(NamedTuple):
    """What one rollup cell is about, besides its minute."""

    event_type: str
    campaign: str
    channel: str
    class_text: str
    currency: str
    arm: str = ""


def bucket_of(latency_ms: int) -> int:
    """The histogram bucket of one latency.

    Units: milliseconds; a negative latency (clocks differ) counts as 0.

    >>> [bucket_of(ms) for ms in (-5, 0, 1, 2, 3, 4, 1_000, 10**15)]
    [0, 0, 1, 2, 2, 3, 10, 31]
    """
    return min(max(latency_ms, 0).bit_length(), HISTOGRAM_BUCKETS - 1)


def buckets_of(latencies_ms: Numbers) -> Numbers:
    """The bucket of each latency. Units: milliseconds, below 2^53."""
    if are_few(latencies_ms):
        return np.array(list(map(bucket_of, latencies_ms.tolist())), np.int64)
    # A positive number's exponent to the base of 2 is its length in bits.
    bits = np.frexp(np.maximum(latencies_ms, 0).astype(np.float64))[1]
    buckets: Numbers = np.minimum(bits, HISTOGRAM_BUCKETS - 1).astype(np.int64)
    return buckets
