"""Online clusters of people's rhythms, for dashboards and for newcomers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from river import cluster

from flows.model.shapes import HOURS, Floats, smooth

_SCALE: Final = 10.0
CLUSTERERS: Final[dict[str, Callable[[int], Any]]] = {
    "KMeans": lambda seed: cluster.KMeans(n_clusters=8, halflife=0.1, sigma=0.5, seed=seed),
    "STREAMKMeans": lambda seed: cluster.STREAMKMeans(
        chunk_size=100, n_clusters=8, halflife=0.1, sigma=0.5, seed=seed
    ),
    "CluStream": lambda seed: cluster.CluStream(
        n_macro_clusters=8, max_micro_clusters=60, time_gap=100, seed=seed, halflife=0.1
    ),
    "DBSTREAM": lambda _seed: cluster.DBSTREAM(
        clustering_threshold=1.5, fading_factor=0.001, cleanup_interval=50, minimum_weight=3
    ),
}


def rhythm(counts: Floats) -> dict[int, float]:
    """Activity by hour as a point: smoothed roots of shares, less those of an even day.

    Shapes: 24 counts in, 24 named numbers of about one out, however many the counts.
    """
    spread = smooth(np.concatenate([counts, np.zeros(HOURS)]))[:HOURS] + 0.5
    point = _SCALE * (np.sqrt(spread / spread.sum()) - np.sqrt(1.0 / HOURS))
    return dict(enumerate(point.tolist()))


class RhythmClusters:
    """Centroids of rhythms that move with the people.

    State: River's KMeans, the best of River's with few activities a person
    (docs/delivery-time.md); eight centroids of 24 numbers.
    """

    def __init__(self, *, seed: int = 0) -> None:
        self._clusterer = CLUSTERERS["KMeans"](seed)

    def learn(self, counts: Floats) -> None:
        """Move centroids towards people's rhythms. Shapes: (n, 24) activity by local hour."""
        for row in counts:
            self._clusterer.learn_one(rhythm(row))

    def nearest(self, counts: Floats) -> list[int]:
        """The cluster of each person; needs only a few activities. Shapes: (n, 24) to n."""
        return [int(self._clusterer.predict_one(rhythm(row))) for row in counts]

    def centroids(self) -> Floats:
        """Share of activity by local hour of each cluster. Shapes: (clusters, 24)."""
        centres = self._clusterer.centers
        points = np.array([[centres[at][hour] for hour in range(HOURS)] for at in sorted(centres)])
        root = np.maximum(points / _SCALE + np.sqrt(1.0 / HOURS), 0.0)
        return np.asarray(root**2 / (root**2).sum(axis=1, keepdims=True))
