"""Clusters of rhythms: what they part, what they show, and that they part real types."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from flows.model.clusters import CHUNK, CLUSTERS, RhythmClusters, rhythm
from flows.model.exchange import UnreadableStateError
from flows.model.shapes import Floats
from tests.measure.clusters_town import agreement, by_hour, make_town

HOURS = np.arange(24)


def days(kinds: np.ndarray[tuple[int], np.dtype[np.int64]], seed: int) -> Floats:
    """Activity of people of the morning (kind 0) and of the evening (kind 1)."""
    rng = np.random.default_rng(seed)
    day = np.array([np.exp(-0.5 * ((HOURS - peak) / 1.5) ** 2) for peak in (8, 20)])
    return np.array([rng.multinomial(40, day[one] / day[one].sum()) for one in kinds], dtype=float)


def test_clusters_part_mornings_from_evenings() -> None:
    kind = np.random.default_rng(1).integers(0, 2, 600)
    counts = days(kind, 1)
    clusters = RhythmClusters(seed=1)
    clusters.learn(counts)
    found = np.array(clusters.nearest(counts))
    centroids = clusters.centroids()

    assert not set(found[kind == 0]) & set(found[kind == 1])
    assert np.allclose(1.0, centroids.sum(axis=1))
    assert {8, 20} == {round(hour) for hour in centroids[np.unique(found)].argmax(axis=1)}


def test_no_centroid_shows_a_rhythm_of_nobody() -> None:
    """River starts centroids as noise: on a dashboard that would be people who do not exist."""
    clusters = RhythmClusters(seed=1)
    clusters.learn(days(np.zeros(300, dtype=np.int64), 2))

    assert {7, 8, 9} >= set(clusters.centroids().argmax(axis=1).tolist())


def test_there_is_no_centroid_before_the_first_chunk_is_full() -> None:
    clusters = RhythmClusters()
    counts = days(np.zeros(CHUNK, dtype=np.int64), 2)
    clusters.learn(counts[1:])

    assert (0, 24) == clusters.centroids().shape
    with pytest.raises(ValueError, match="found no centroid"):
        clusters.nearest(counts)
    clusters.learn(counts[:1])
    assert (CLUSTERS, 24) == clusters.centroids().shape
    assert len(counts) == len(clusters.nearest(counts))


def test_centroids_are_shares_of_activity_beside_a_little_of_an_even_day() -> None:
    """One person again and again: the centroids are that person."""
    wave = 10.0 * (1.0 + np.cos(2 * np.pi * (HOURS - 14) / 24))
    clusters = RhythmClusters()
    clusters.learn(np.tile(wave, (10 * CHUNK, 1)))
    shares = (wave + 2.0 / 24) / (wave.sum() + 2.0)

    assert np.allclose(shares, clusters.centroids()[clusters.nearest(wave[None])[0]], atol=1e-3)
    assert np.allclose(0.0, rhythm(np.stack([np.zeros(24), np.ones(24)])))


@pytest.mark.parametrize("cut", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 777])
def test_clusters_that_are_saved_and_read_go_on_as_if_nothing_had_been(cut: int) -> None:
    counts = np.random.default_rng(4).poisson(1.0, (1_100, 24)).astype(np.float64)
    straight, stopped = RhythmClusters(seed=5), RhythmClusters(seed=5)
    straight.learn(counts)
    stopped.learn(counts[:cut])
    saved = msgspec.msgpack.encode(stopped.dump())
    again = RhythmClusters.load(msgspec.msgpack.decode(saved))

    assert saved == msgspec.msgpack.encode(again.dump())
    again.learn(counts[cut:])
    assert straight.dump() == again.dump()
    assert np.array_equal(straight.centroids(), again.centroids())


def test_clusters_of_another_version_are_refused_in_words() -> None:
    with pytest.raises(UnreadableStateError, match=r"found version 2; expected version 1"):
        RhythmClusters.load({**RhythmClusters().dump(), "version": 2})


def test_the_cut_into_batches_changes_nothing() -> None:
    """Sums of products may differ in the last digit by how many rows are multiplied at once."""
    counts = np.random.default_rng(6).poisson(2.0, (500, 24)).astype(np.float64)
    whole, pieces = RhythmClusters(seed=5), RhythmClusters(seed=5)
    whole.learn(counts)
    for start in range(0, len(counts), 7):
        pieces.learn(counts[start : start + 7])

    assert whole.dump() == pieces.dump()


@pytest.mark.parametrize(("activities", "least"), [(20, 0.15), (100, 0.4)])
def test_clusters_agree_with_the_types_that_a_world_was_drawn_from(
    activities: int, least: float
) -> None:
    """A small part of `python -m tests.measure.clusters`."""
    found = []
    for seed in (100, 101, 102):
        town = make_town("medium", activities=activities, seed=seed)
        counts = by_hour(town.activity)
        clusters = RhythmClusters(seed=seed)
        clusters.learn(counts)
        labels = np.array(clusters.nearest(counts))
        found.append(agreement(town.crowd.types[: len(counts)], labels))

    assert np.mean(found) > least


def test_agreement_is_one_for_the_same_parts_and_none_for_one_part() -> None:
    types = np.array([0, 0, 1, 1, 2, 2])

    assert 1.0 == agreement(types, np.array([2, 2, 0, 0, 1, 1]))
    assert 0.0 == agreement(types, np.zeros(6, dtype=np.int64))
    assert agreement(types, np.array([0, 1, 2, 0, 1, 2])) < 0
