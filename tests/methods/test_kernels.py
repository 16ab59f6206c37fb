"""The stages of the elementwise methods against the same sentences said entry by entry in plain Python."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evomerge.methods.kernels import Consensus, Sum, agreed
from evomerge.methods.masks import END, below, columns, entry_word, row_words, shared_word, tie_word

P, N = 3, 48
INF = float("inf")
ROWS = torch.stack([row_words(key, N, torch.device("cpu")) for key in range(P + 1)])[:, :, None]
COLUMN = columns(torch.device("cpu"))[:N]
DRAWN = [entry_word(shared_word(COLUMN, ROWS[0]), ROWS[k + 1])[0] for k in range(P)]
TIES = tie_word(COLUMN, ROWS[0])[0]
SPARSIFIERS = ("all", "largest", "middle", "random", "ranked")
quick = settings(deadline=None, max_examples=15, derandomize=True)


def a_cut(magnitude: float, word: float) -> list[float]:
    """Rows of a cut: kept is what is larger, and of the equal what has a smaller word."""
    larger = torch.tensor(magnitude).nextafter(torch.tensor(INF)).item()
    return [magnitude, larger, word]


@st.composite
def inputs(draw, kernel: Consensus) -> tuple[list[torch.Tensor], torch.Tensor, list[torch.Tensor]]:
    """(values, numbers, ranks). Eighths and dyadic weights: sums are exact, and many magnitudes are equal."""
    random = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    values = [torch.randint(-8, 9, (1, N), generator=random) / 8 for _ in range(P)]
    weights = [draw(st.sampled_from([-0.5, 0.0, 0.5, 1.0, 2.0])) for _ in range(P)]
    numbers = [
        [draw(st.sampled_from([0.5, 1.0, 2.0])) * w for w in weights],
        weights,
        [draw(st.sampled_from([0.5, -2.0]))] * P,
    ]
    levels, words = st.sampled_from([i / 8 for i in range(9)]), st.sampled_from([-END, -4e6, 0.0, 4e6, END])
    if kernel.sparsify in ("largest", "middle"):
        lower = [a_cut(draw(levels), draw(words) if kernel.ties else END) for _ in range(P)]
        numbers += [list(row) for row in zip(*lower, strict=True)]
    if kernel.sparsify == "middle":
        upper = [a_cut(draw(levels), draw(words) if kernel.ties else END) for _ in range(P)]
        numbers += [list(row) for row in zip(*upper, strict=True)]
    if kernel.sparsify in ("random", "ranked"):
        numbers.append([below(draw(st.sampled_from([0.0, 0.25, 0.5, 1.0]))) for _ in range(P)])
    ranks = [torch.randperm(N, generator=random)[None].float() for _ in range(P)]
    if kernel.sparsify == "ranked":
        numbers[3] = [max(-END / 2, min(x, END / 2)) for x in numbers[3]]
        numbers.append([draw(st.sampled_from([0.0, 2.0**16])) for _ in range(P)])
    return values, torch.tensor(numbers), ranks


# ---------------------------------------------------------------- in words


def is_kept(kernel: Consensus, value: float, numbers: list[float], k: int, i: int, rank: float) -> bool:
    if kernel.sparsify == "all":
        return True
    if kernel.sparsify in ("random", "ranked"):
        return DRAWN[k][i].item() < limit_of(kernel, numbers, rank)

    def reaches(cut: list[float]) -> bool:
        equal = abs(value) == cut[0] and (TIES[i].item() < cut[2] or not kernel.ties)
        return abs(value) > cut[0] or equal

    return reaches(numbers[3:6]) and not (kernel.sparsify == "middle" and reaches(numbers[6:9]))


def limit_of(kernel: Consensus, numbers: list[float], rank: float) -> float:
    return numbers[3] + (numbers[4] * rank if kernel.sparsify == "ranked" else 0.0)


def in_words(kernel: Consensus, values: Any, numbers: torch.Tensor, ranks: Any, i: int) -> float:
    columns_of = numbers.double().T.tolist()
    survivors = []
    for k, of in enumerate(columns_of):
        value, rank = values[k][0, i].item(), float(ranks[k][0, i])
        x = of[0] * value if is_kept(kernel, value, of, k, i, rank) else 0.0
        if kernel.inverse and kernel.sparsify == "ranked":
            x /= min((limit_of(kernel, of, rank) / END + 1) / 2, 1.0)
        survivors.append(x)
    scale = columns_of[0][2]
    if not kernel.elect:
        return scale * sum(survivors)
    sign = 1 if sum(survivors) >= 0 else -1
    agreeing = [k for k, x in enumerate(survivors) if x * sign > 0]
    divisor = sum(columns_of[k][1] for k in agreeing) if kernel.normalize else 1.0
    return scale * sum(survivors[k] for k in agreeing) / (divisor or 1.0)


ALL = [
    Consensus(sparsify, ties, inverse, elect, normalize)
    for sparsify, ties, inverse, elect, normalize in product(SPARSIFIERS, *[(False, True)] * 4)
    if not (ties and sparsify not in ("largest", "middle"))
    and not (inverse and sparsify != "ranked")
    and not (normalize and not elect)
]


@pytest.mark.parametrize("kernel", ALL, ids=str)
@quick
@given(data=st.data())
def test_the_consensus_of_an_entry_is_what_the_words_say(kernel, data):
    values, numbers, ranks = data.draw(inputs(kernel))
    column, words = (COLUMN, ROWS) if kernel.random else (None, None)
    found = kernel(values, numbers, column, words, ranks if kernel.sparsify == "ranked" else ())
    assert found.shape == (1, N) and found.dtype == torch.float32
    wanted = torch.tensor([[in_words(kernel, values, numbers, ranks, i) for i in range(N)]])
    torch.testing.assert_close(found, wanted, rtol=2e-6, atol=1e-6 if kernel.inverse else 0)


@pytest.mark.parametrize("kernel", [Sum(), *ALL[::3]], ids=str)
def test_a_kernel_overwrites_nothing_but_its_values(kernel):
    values = [torch.randn(1, N, generator=torch.Generator().manual_seed(k)) for k in range(P)]
    others = [torch.full((9, P), 0.5), COLUMN, ROWS, *torch.full((P, 1, N), 0.5)]
    before = [other.clone() for other in others]
    merged = kernel(values, *others[:3], others[3:])
    merged.add_(1.0)  # as the base is
    assert all(torch.equal(a, b) for a, b in zip(others, before, strict=True))


@quick
@given(st.lists(st.floats(-2, 2, width=32), min_size=1, max_size=5))
def test_a_sum_is_added_in_the_parents_order(weights):
    values = [torch.randn(2, 5, generator=torch.Generator().manual_seed(k)) for k in range(len(weights))]
    wanted = values[0] * weights[0]
    for value, weight in zip(values[1:], weights[1:], strict=True):
        wanted = wanted + value * weight
    assert torch.equal(Sum()(values, torch.tensor([weights]), None, None, ()), wanted)


def test_coefficients_of_a_sum_may_be_one_for_each_row_or_column():
    values = torch.stack([torch.ones(2, 3), torch.full((2, 3), 10.0)])
    by_row = [torch.tensor([[1.0], [2.0]]), torch.tensor([[0.5], [0.0]])]
    by_column = [torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[0.0, 0.0, 1.0]])]
    nothing = torch.zeros(1, 2)
    assert Sum()([*values.clone()], nothing, None, None, by_row).tolist() == [[6.0] * 3, [2.0] * 3]
    assert Sum()([*values], nothing, None, None, by_column).tolist() == [[1.0, 2.0, 13.0]] * 2


def test_equal_kernels_are_one_key():
    assert len({Sum(), Sum(), Consensus(), Consensus("all"), replace(Consensus(), elect=True)}) == 3


def test_the_limits_of_a_rank_are_as_precise_as_words_are():
    """float32 has 24 bits: a probability of 2**-20 above a half is still another limit."""
    assert torch.tensor(below(0.5 + 2**-20)).item() > torch.tensor(below(0.5)).item() == 0.0


def test_an_election_is_held_in_float32_whatever_the_default_dtype():
    values, plus = [torch.tensor([1.0, -2.0]), torch.tensor([0.5, 1.0])], torch.tensor([True, False])
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        found = agreed(values, plus)
    finally:
        torch.set_default_dtype(before)
    assert found.dtype == torch.float32 and found.tolist() == [1.5, -2.0]
