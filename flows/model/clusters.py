"""Online clusters of people's rhythms, for people who look at them."""

from __future__ import annotations

from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray
from river import cluster, preprocessing

from flows.model.exchange import UnreadableStateError
from flows.model.shapes import HOURS, Floats

CLUSTERS: Final = 6
CHUNK: Final = 200
"""Rhythms that are gathered before centroids move; there is no centroid before the first.

Saved states depend on it: another number is another `VERSION`.
"""

VERSION: Final = 1
_KIND: Final = "rhythm-clusters"
_HARMONICS: Final = 3
_AXES: Final = range(2 * _HARMONICS)
_EVEN: Final = 2.0  # activities of an even day beside a person's own, since few tell little
_SCALE: Final = 3.0  # people lie about one apart
_ANGLE: Final = 2 * np.pi * np.outer(np.arange(HOURS), np.arange(1, _HARMONICS + 1)) / HOURS
_WAVES: Final = np.concatenate([np.cos(_ANGLE), np.sin(_ANGLE)], axis=1)


def rhythm(counts: Floats) -> Floats:
    """Activity by hour as three harmonics of the day, so that near hours count as near.

    Shapes: (n, 24) to (n, 6); zero for nobody's activity and for an even day.
    """
    # Not `@`: its last digit may depend on how many rows there are, and so on the cut into blocks.
    waves = np.einsum("nh,hw->nw", counts, _WAVES)
    return np.asarray(_SCALE * waves / (counts.sum(axis=1, keepdims=True) + _EVEN))


class RhythmClusters:
    """Centroids of rhythms that move with the people.

    A person may be learned again when more activity is known. Newcomers are better served by the
    delivery-time model's own answer (docs/delivery-time.md); these are for those who look.

    State: River's STREAMKMeans on rhythms less their mean: `CLUSTERS` centroids of six numbers and
    at most `CHUNK` rhythms. It names nobody.
    """

    def __init__(self, *, seed: int = 0) -> None:
        self._seed = seed
        self._mean = preprocessing.StandardScaler(with_std=False)
        self._told_mean = [0.0] * len(_AXES)
        # The small sigma starts centroids near the people's mean, so one that nobody came to yet
        # shows that, not a rhythm of nobody.
        self._clusterer = cluster.STREAMKMeans(
            chunk_size=CHUNK, n_clusters=CLUSTERS, halflife=0.2, sigma=0.1, seed=seed
        )

    @property
    def learned(self) -> int:
        """Rhythms learned so far."""
        return int(self._clusterer.time_stamp)

    @property
    def version(self) -> int:
        """Rhythms that the centroids were learned from: whole chunks."""
        return self.learned // CHUNK * CHUNK

    def learn(self, counts: Floats) -> None:
        """Move centroids towards people's rhythms. Shapes: (n, 24) activity by local hour."""
        for row in rhythm(counts).tolist():
            point = dict(enumerate(row))
            self._mean.learn_one(point)
            self._clusterer.learn_one(self._mean.transform_one(point))
            if self.learned == self.version:
                self._told_mean = [float(self._mean.means[axis]) for axis in _AXES]

    def nearest(self, counts: Floats) -> NDArray[np.int64]:
        """The row of `centroids` of each person; needs only a few activities.

        Shapes: (n, 24) to n.
        Errors: ValueError before the first chunk is full.
        """
        centres = self._centres()
        if not len(centres):
            message = f"could not assign people: found no centroid; expected {CHUNK} rhythms before"
            raise ValueError(message)
        # The squared distance, but for what is the same for all centroids of a person.
        gap = (centres**2).sum(axis=1) - 2.0 * np.einsum("nw,kw->nk", rhythm(counts), centres)
        return np.asarray(gap.argmin(axis=1), np.int64)

    def centroids(self) -> Floats:
        """Share of activity by local hour of each cluster. Shapes: (clusters, 24)."""
        day = np.maximum(1.0 + 2.0 / _SCALE * self._centres() @ _WAVES.T, 0.0)
        return np.asarray(day / day.sum(axis=1, keepdims=True))

    def _centres(self) -> Floats:
        """Centroids as rhythms; none before the first chunk. Shapes: (clusters, 6)."""
        if self.learned < CHUNK:
            return np.zeros((0, len(_AXES)))
        # With the mean of the last whole chunk: one that moved with each rhythm would tell it.
        return np.asarray(np.array(self._moved()) + np.array(self._told_mean), dtype=np.float64)

    def _moved(self) -> list[list[float]]:
        """Centroids as River keeps them, less the people's mean."""
        return [[centre[axis] for axis in _AXES] for centre in self._clusterer.centers.values()]

    def dump(self) -> dict[str, Any]:
        """The whole state as plain values with a version.

        Before the first chunk River's centroids are noise that it draws anew from the seed, and
        the rhythms of a full chunk are in them: neither is kept.
        """
        waiting = self._clusterer._temp_chunk  # noqa: SLF001 - River dumps only by pickle
        return {
            "version": VERSION,
            "seed": self._seed,
            "learned": self.learned,
            "mean": [float(self._mean.means[axis]) for axis in _AXES],
            "told_mean": self._told_mean,
            "centres": self._moved() if self.learned >= CHUNK else [],
            "waiting": [
                [waiting[place][axis] for axis in _AXES] for place in range(self.learned % CHUNK)
            ],
        }

    @classmethod
    def load(cls, dumped: dict[str, Any]) -> Self:
        """One that goes on exactly where `dump` was taken.

        Errors: UnreadableStateError for another version.
        """
        version = dumped.get("version")
        if version != VERSION:
            raise UnreadableStateError(_KIND, f"version {version}", f"version {VERSION}")
        loaded = cls(seed=dumped["seed"])
        clusterer, mean = loaded._clusterer, loaded._mean
        clusterer.time_stamp = dumped["learned"]
        mean.counts.update(dict.fromkeys(_AXES, dumped["learned"]))
        mean.means.update(zip(_AXES, dumped["mean"], strict=True))
        loaded._told_mean = list(dumped["told_mean"])
        clusterer._temp_chunk = {  # noqa: SLF001 - as above
            place: dict(zip(_AXES, point, strict=True))
            for place, point in enumerate(dumped["waiting"])
        }
        kept = clusterer._kmeans  # noqa: SLF001 - as above
        for number, centre in enumerate(dumped["centres"]):
            kept.centers[number].update(zip(_AXES, centre, strict=True))
        clusterer.centers = kept.centers
        return loaded
