"""Anchors: the items nearest to the centres of clusters, each for the weight of its cluster."""

from __future__ import annotations

import numpy as np
import pytest

from evomerge.subsets.anchors import anchors

BLOBS = np.array([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0]])


def test_each_blob_has_the_item_nearest_to_its_weighted_centre_with_the_blobs_weight():
    rng = np.random.default_rng(0)
    blob = np.repeat([0, 1, 2], [12, 7, 21])
    features, weights = BLOBS[blob] + rng.normal(0, 0.3, (40, 2)), rng.uniform(0.1, 5, 40)
    shares = anchors(features, weights, 3, np.random.default_rng(1))
    for k in range(3):
        here = np.flatnonzero(blob == k)
        centre = np.average(features[here], axis=0, weights=weights[here])
        nearest = here[((features[here] - centre) ** 2).sum(1).argmin()]
        assert np.flatnonzero(shares[here]).tolist() == [int(np.flatnonzero(here == nearest)[0])]
        assert shares[nearest] == pytest.approx(weights[here].sum())


def test_as_many_clusters_as_items_make_every_item_its_own_anchor():
    features, weights = np.random.default_rng(0).normal(size=(15, 3)), np.linspace(1, 2, 15)
    assert anchors(features, weights, 15, np.random.default_rng(1)) == pytest.approx(weights)


def test_alike_items_have_one_anchor_for_all_of_them():
    features = np.repeat([[0.0], [1.0]], [6, 4], axis=0) + np.linspace(0, 1e-8, 10)[:, None]
    shares = anchors(features, np.ones(10), 5, np.random.default_rng(1))
    assert sorted(shares[shares > 0].tolist()) == [4, 6]


def test_an_item_nearest_to_two_centres_stands_for_both_clusters():
    # members lie far from their centre, each along an axis of its own; the last item lies between the centres
    features = np.vstack([2 * np.eye(20), np.zeros(20)])
    features = np.column_stack([np.repeat([1.0, -1.0, 0.0], [10, 10, 1]), features])
    shares = anchors(features, np.ones(21), 2, np.random.default_rng(0))
    assert shares.tolist() == [0.0] * 20 + [21.0]
