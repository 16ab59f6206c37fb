"""Sums of factors are exact, and truncations the best there are with the error they report."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from evomerge.errors import MergeError
from evomerge.models.lora_factors import compress, concatenate, truncate

sizes = st.integers(1, 9)
weights = st.floats(-2, 2, width=32)


def draw(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def parts_of(m, n, ranks, ws, seed):
    return [
        (w, draw(seed + 2 * i, m, r), draw(seed + 2 * i + 1, r, n))
        for i, (w, r) in enumerate(zip(ws, ranks, strict=True))
    ]


ranked = st.integers(1, 4).flatmap(
    lambda k: st.tuples(st.lists(sizes, min_size=k, max_size=k), st.lists(weights, min_size=k, max_size=k))
)


@given(m=sizes, n=sizes, ranked=ranked, seed=st.integers(0, 99))
def test_concatenated_factors_are_the_weighted_sum_of_products(m, n, ranked, seed):
    parts = parts_of(m, n, *ranked, seed)
    b, a = concatenate(parts)
    assert b.shape == (m, sum(ranked[0])) and a.shape == (sum(ranked[0]), n)
    torch.testing.assert_close(b @ a, sum(w * (b @ a) for w, b, a in parts), rtol=1e-5, atol=1e-4)


@given(m=sizes, n=sizes, r=sizes, w=weights, seed=st.integers(0, 99))
def test_a_weight_counts_once_and_keeps_its_sign(m, n, r, w, seed):
    b, a = draw(seed, m, r), draw(seed + 1, r, n)
    minus, plus = (torch.matmul(*concatenate([(s * w, b, a)])) for s in (-1, 1))
    assert torch.equal(minus, -plus)
    torch.testing.assert_close(plus, w * (b @ a), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([], "no factors to sum"),
        ([(1.0, torch.ones(3, 2), torch.ones(2, 4)), (1.0, torch.ones(3, 2), torch.ones(2, 5))], r"\(2, 4\).*\(2, 5\)"),
        ([(1.0, torch.ones(3, 2), torch.ones(1, 4))], r"\(3, 2\) @ \(1, 4\)"),
    ],
)
def test_parts_that_have_no_sum_are_refused(parts, message):
    with pytest.raises(MergeError, match=message):
        concatenate(parts)


@given(m=sizes, n=sizes, rank=st.integers(1, 12), seed=st.integers(0, 99))
def test_truncation_is_as_near_as_any_matrix_of_that_rank(m, n, rank, seed):
    delta = draw(seed, m, n)
    b, a, error = truncate(delta, rank)
    assert b.dtype == a.dtype == torch.float32 and b.shape[1] == a.shape[0] == min(rank, m, n)
    left_out = torch.linalg.svdvals(delta.double())[rank:]  # Eckart and Young: no matrix of the rank is nearer
    assert error == pytest.approx(float(left_out.norm() / delta.double().norm()), abs=1e-6)
    assert error == pytest.approx(float((delta - b @ a).norm() / delta.norm()), abs=1e-5)


@given(m=sizes, n=sizes, r=sizes, rank=st.integers(1, 12), seed=st.integers(0, 99))
def test_compression_is_the_truncation_of_the_product(m, n, r, rank, seed):
    b, a = draw(seed, m, r), draw(seed + 1, r, n)
    small_b, small_a, error = compress(b, a, rank)
    whole_error = truncate(b.double() @ a.double(), rank)[2]
    assert small_b.shape[1] == small_a.shape[0] <= min(rank, m, n, r)
    assert error == pytest.approx(whole_error, abs=1e-6)
    made, product = small_b @ small_a, b @ a
    assert float((made - product).norm() / product.norm()) == pytest.approx(error, abs=1e-5)


@given(m=sizes, n=sizes, rank=sizes)
def test_a_zero_delta_has_no_error(m, n, rank):
    for b, a, error in (
        truncate(torch.zeros(m, n), rank),
        compress(torch.zeros(m, 3), torch.ones(3, n), rank),
    ):
        assert error == 0.0
        assert not (b @ a).any()


def test_the_same_factors_give_the_same_bits():
    b, a = draw(0, 40, 12), draw(1, 12, 30)
    for one, two in zip(compress(b, a, 5)[:2], compress(b, a, 5)[:2], strict=True):
        assert torch.equal(one, two)


def test_a_sum_compressed_to_its_own_rank_is_itself():
    b, a = concatenate([(0.5, draw(0, 20, 3), draw(1, 3, 30)), (-1.5, draw(2, 20, 2), draw(3, 2, 30))])
    small_b, small_a, error = compress(b, a, 5)
    assert error < 1e-6
    torch.testing.assert_close(small_b @ small_a, b @ a, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rank", [0, -1])
def test_no_rank_is_refused(rank):
    with pytest.raises(MergeError, match=f"rank {rank} is no rank"):
        truncate(torch.ones(2, 2), rank)
    with pytest.raises(MergeError, match=f"rank {rank} is no rank"):
        compress(torch.ones(2, 2), torch.ones(2, 2), rank)
