"""Online clusters of people's rhythms, for people who look at them."""

from __future__ import annotations

from typing import Final

import numpy as np
from river import cluster, preprocessing

from flows.model.shapes import HOURS, Floats

CLUSTERS: Final = 6
CHUNK: Final = 200
"""Rhythms that are gathered before centroids move; there is no centroid before the first."""

_HARMONICS: Final = 3
_EVEN: Final = 2.0  # activities of an even day beside a person's own, since few tell little
_SCALE: Final = 3.0  # people lie about one apart
_ANGLE: Final = 2 * np.pi * np.outer(np.arange(HOURS), np.arange(1, _HARMONICS + 1)) / HOURS
_WAVES: Final = np.concatenate([np.cos(_ANGLE), np.sin(_ANGLE)], axis=1)


def rhythm(counts: Floats) -> Floats:
    """Activity by hour as three harmonics of the day, so that near hours count as near.

    Shapes: (n, 24) to (n, 6); zero for nobody's activity and for an even day.
    """
    return np.asarray(_SCALE * counts @ _WAVES / (counts.sum(axis=1, keepdims=True) + _EVEN))


class RhythmClusters:
    """Centroids of rhythms that move with the people.

    A person may be learned again when more activity is known. Newcomers are better served by the
    delivery-time model's own answer (docs/delivery-time.md); these are for those who look.

    State: River's STREAMKMeans on rhythms less their mean: `CLUSTERS` centroids of six numbers and
    at most `CHUNK` rhythms.
    """

    def __init__(self, *, seed: int = 0) -> None:
        self._mean = preprocessing.StandardScaler(with_std=False)
        # The small sigma starts centroids near the people's mean, so one that nobody came to yet
        # shows that, not a rhythm of nobody.
        self._clusterer = cluster.STREAMKMeans(
            chunk_size=CHUNK, n_clusters=CLUSTERS, halflife=0.2, sigma=0.1, seed=seed
        )

    def learn(self, counts: Floats) -> None:
        """Move centroids towards people's rhythms. Shapes: (n, 24) activity by local hour."""
        for row in rhythm(counts).tolist():
            point = dict(enumerate(row))
            self._mean.learn_one(point)
            self._clusterer.learn_one(self._mean.transform_one(point))

    def nearest(self, counts: Floats) -> list[int]:
        """The row of `centroids` of each person; needs only a few activities.

        Shapes: (n, 24) to n.
        Errors: ValueError before the first chunk is full.
        """
        centres = self._centres()
        if not len(centres):
            message = f"could not assign people: found no centroid; expected {CHUNK} rhythms before"
            raise ValueError(message)
        gap = rhythm(counts)[:, None] - centres[None]
        return [int(number) for number in (gap**2).sum(axis=2).argmin(axis=1)]

    def centroids(self) -> Floats:
        """Share of activity by local hour of each cluster. Shapes: (clusters, 24)."""
        day = np.maximum(1.0 + 2.0 / _SCALE * self._centres() @ _WAVES.T, 0.0)
        return np.asarray(day / day.sum(axis=1, keepdims=True))

    def _centres(self) -> Floats:
        """Centroids as rhythms; none before the first chunk. Shapes: (clusters, 6)."""
        axes = range(2 * _HARMONICS)
        if self._clusterer.time_stamp < CHUNK:
            return np.zeros((0, len(axes)))
        centres = [[centre[axis] for axis in axes] for centre in self._clusterer.centers.values()]
        mean = [self._mean.means[axis] for axis in axes]
        return np.asarray(np.array(centres) + np.array(mean), dtype=np.float64)
