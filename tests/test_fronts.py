"""Fronts: by their definitions, over random points with ties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as stnp

from evomerge import fronts

GRID = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])  # coarse, so that points tie
SIZES = st.tuples(st.integers(1, 12), st.integers(1, 4))
POINTS = stnp.arrays(float, SIZES, elements=GRID)


def dominates(one, other):
    return bool((one >= other).all() and (one > other).any())


@given(values=POINTS)
def test_the_front_is_what_no_point_dominates_and_equal_points_all_stay(values):
    expected = [i for i, p in enumerate(values) if not any(dominates(q, p) for q in values)]
    assert fronts.non_dominated(values).tolist() == expected


@given(values=POINTS, data=st.data())
def test_only_points_of_the_least_violation_are_compared(values, data):
    broken = np.array(data.draw(st.lists(st.sampled_from([0.0, 0.1, 0.2]), min_size=len(values), max_size=len(values))))
    among = [i for i in range(len(values)) if broken[i] == broken.min()]
    expected = [i for i in among if not any(dominates(values[j], values[i]) for j in among)]
    assert fronts.non_dominated(values, broken).tolist() == expected


def test_no_points_have_no_front_and_no_volume():
    assert fronts.non_dominated(np.empty((0, 3)), []).tolist() == []
    assert fronts.hypervolume(np.empty((0, 3)), np.zeros(3)) == 0.0


@given(values=POINTS)
def test_the_hypervolume_is_the_share_of_random_points_that_some_point_dominates(values):
    reference = np.full(values.shape[1], 0.2)
    sample = np.random.default_rng(0).uniform(0.2, 1.0, (4000, values.shape[1]))
    covered = (sample[:, None] <= values[None]).all(axis=2).any(axis=1).mean()
    assert fronts.hypervolume(values, reference) / 0.8 ** values.shape[1] == pytest.approx(covered, abs=0.04)


def test_a_hypervolume_by_hand_and_what_is_below_the_reference_adds_nothing():
    steps = np.array([[3.0, 1.0], [2.0, 2.0], [1.0, 3.0]])
    assert fronts.hypervolume(steps, np.zeros(2)) == pytest.approx(6.0)
    assert fronts.hypervolume(np.vstack([steps, [[9.0, -0.1]]]), np.zeros(2)) == pytest.approx(6.0)


@given(values=stnp.arrays(float, st.tuples(st.integers(3, 12), st.just(2)), elements=st.floats(0, 1)))
def test_of_two_goals_the_knee_lies_furthest_above_the_line_through_the_extremes(values):
    front = values[fronts.non_dominated(values)]
    a, b = front[front[:, 0].argmax()], front[front[:, 1].argmax()]
    if (np.ptp(front, axis=0) < 1e-3).any():
        return
    along = (b - a) / np.ptp(front, axis=0)  # in units of the goals' ranges
    normal = np.array([along[1], -along[0]])
    distances = (front - a) / np.ptp(front, axis=0) @ normal / np.linalg.norm(normal)
    assert distances[fronts.knee(front)] == pytest.approx(distances.max(), abs=1e-9)


@given(values=POINTS, factor=st.floats(0.1, 10), shift=st.floats(-5, 5))
def test_the_knee_does_not_depend_on_a_goals_unit(values, factor, shift):
    moved = values.copy()
    moved[:, 0] = moved[:, 0] * factor + shift
    heights = fronts.scaled(values).sum(axis=1)
    assert heights[fronts.knee(moved)] == pytest.approx(heights[fronts.knee(values)], abs=1e-9)


def test_between_two_extremes_the_better_sum_is_the_knee_and_one_point_is_its_own():
    assert fronts.knee(np.array([[1.0, 0.0], [0.0, 1.5]])) == 1
    assert fronts.knee(np.array([[0.0, 1.0], [1.0, 0.0]])) == 0
    assert fronts.knee(np.array([[0.3, 0.2, 0.1]])) == 0


def test_weights_choose_along_the_front():
    front = np.array([[1.0, 0.0], [0.7, 0.7], [0.0, 1.0]])
    assert [fronts.preferred(front, w) for w in ([1, 0], [1, 1], [0, 1], [5, 1])] == [0, 1, 2, 0]


@given(values=POINTS, size=st.integers(1, 12))
def test_a_thinned_front_has_the_size_asked_and_the_best_of_each_goal_if_there_is_room(values, size):
    kept = fronts.thinned(values, size)
    assert len(set(kept.tolist())) == len(kept) == min(size, len(values)) and (np.diff(kept) > 0).all()
    if size >= values.shape[1]:
        assert (values[kept].max(axis=0) == values.max(axis=0)).all()


def test_a_thinned_front_keeps_what_adds_most_volume():
    front = np.array([[1.0, 0.0], [0.9, 0.2], [0.7, 0.7], [0.69, 0.71], [0.2, 0.9], [0.0, 1.0]])
    assert fronts.thinned(front, 3).tolist() == [0, 2, 5]  # 0.49 against 0.4899
    assert fronts.thinned(front, 5).tolist() == [0, 1, 2, 4, 5]  # 3 adds almost nothing beside 2


def test_without_room_for_the_extremes_the_knee_is_kept():
    front = np.array([[1.0, 0.0], [0.7, 0.7], [0.0, 1.0]])
    assert fronts.thinned(front, 1).tolist() == [1]
