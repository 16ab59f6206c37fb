"""Groups of sequences that begin alike: a true partition, and the cheapest one."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from evomerge.backends.prefixes import GRAIN, common, groups

sequences = st.lists(
    st.builds(
        lambda start, own: np.array([*([start] * 9), *own], np.int32),
        st.integers(0, 1),
        st.lists(st.integers(0, 1), min_size=1, max_size=30),
    ),
    min_size=1,
    max_size=7,
)


def saved(shared: list[int], launch: int) -> int:
    """Of the best cut of a sorted list, by trying all: shared between neighbours -> tokens saved less passes."""
    n = len(shared) + 1
    best = 0
    for mask in range(2 ** (n - 1)):
        cuts = [0, *(k + 1 for k in range(n - 1) if mask >> k & 1), n]
        runs = [(a, b) for a, b in pairwise(cuts) if b - a > 1]
        best = max(best, sum((b - a - 1) * min(shared[a : b - 1]) - launch for a, b in runs))
    return best


@given(sequences, st.sampled_from([0, 5, 20]))
def test_members_of_a_group_begin_alike_and_all_belong_to_one(sequences, launch):
    found = groups(sequences, launch)
    assert sorted(i for members, _ in found for i in members) == list(range(len(sequences)))
    for members, shared in found:
        starts = {sequences[i][:shared].tobytes() for i in members}
        assert len(starts) == 1 and shared % GRAIN == 0
        assert all(len(sequences[i]) > shared for i in members)


@given(sequences, st.sampled_from([1, 5, 20]))
def test_no_other_grouping_of_sorted_sequences_saves_more(sequences, launch):
    order = sorted(sequences, key=lambda s: s.tolist())
    shared = [common(a, b) for a, b in pairwise(order)]
    found = groups(sequences, launch)
    assert sum((len(m) - 1) * s - launch for m, s in found if s) == saved(shared, launch)


def test_a_group_is_not_spoilt_by_what_begins_otherwise():
    a, b = [1] * 400, [2] * 400
    rows = [np.array([*start, k], np.int32) for k in range(5) for start in (a, b)] + [np.array([3], np.int32)]
    found = groups(rows, 32)
    assert [(sorted(m), s) for m, s in found] == [([0, 2, 4, 6, 8], 400), ([1, 3, 5, 7, 9], 400), ([10], 0)]


def test_a_sequence_keeps_a_token_of_its_own():
    a, b = np.arange(16, dtype=np.int32), np.arange(17, dtype=np.int32)
    assert common(a, a) == 8 and common(b, b) == 16 and common(a, b) == 8
