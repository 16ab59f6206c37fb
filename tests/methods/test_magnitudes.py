"""Tables of magnitudes: which tensors get one, what is read for them, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from evomerge.errors import MergeError
from evomerge.methods import magnitudes as module
from evomerge.methods.entries import Entries
from evomerge.methods.magnitudes import KEPT, Ranges, Table, magnitudes
from evomerge.methods.order import size

N = 200_000


def random(n: int = N) -> torch.Tensor:
    return torch.randn(n, generator=torch.Generator().manual_seed(0)) * 0.02


def difference(dtype: torch.dtype) -> torch.Tensor:
    """Of two tensors of this dtype, as a fine-tuned model differs from its base."""
    base = random().to(dtype)
    return (base.float() + random().flip(0) * 0.05).to(dtype).float() - base.float()


def counted(values: torch.Tensor) -> tuple[Entries, list[int]]:
    """Entries of one parent, and a list that grows by the number of entries at each reading."""
    entries, sizes = Entries.of(values[None]), []
    read = entries.read
    entries.read = lambda start, stop, parents: (sizes.append(stop - start), read(start, stop, parents))[1]
    return entries, sizes


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_difference_of_16_bit_tensors_is_counted_value_by_value_and_read_once(dtype):
    entries, sizes = counted(difference(dtype))
    for rank in (1, 17, N // 3, N):
        size(entries, rank)
    (found,) = entries.each(magnitudes)
    values, counts = np.unique(difference(dtype).abs().numpy(), return_counts=True)
    assert isinstance(found, Table) and sum(sizes) == N
    assert np.array_equal(found.sizes, values[::-1])
    assert np.array_equal(found.reach, counts[::-1].cumsum())
    assert found.reach.dtype == np.int32


def test_values_that_hardly_repeat_are_counted_by_range_and_given_up_on_early():
    entries, sizes = counted(random())
    (found,) = entries.each(magnitudes)
    assert isinstance(found, Ranges) and len(found.keys) < 4000
    assert sum(sizes) == N + module.STRETCH["cpu"]  # one stretch tells, then one pass over all


def test_a_range_is_looked_into_once_while_it_is_kept():
    entries, sizes = counted(random())
    (found,) = entries.each(magnitudes)
    ranks = [N // 20 * k for k in range(1, KEPT + 2)]
    for rank in ranks[:KEPT]:
        size(entries, rank)
    passes = sum(sizes)
    size(entries, ranks[0])
    assert sum(sizes) == passes
    size(entries, ranks[KEPT])  # one too many: the one that was longest not asked for is ranks[1]
    assert sum(sizes) == passes + N and len(found.tables) == KEPT
    size(entries, ranks[0])
    assert sum(sizes) == passes + N
    size(entries, ranks[1])
    assert sum(sizes) == passes + 2 * N


def test_more_zeros_than_a_run_can_count_do_not_spoil_the_other_counts(monkeypatch):
    monkeypatch.setattr(module, "COUNT", 33)
    zeros = module._packed(np.array([0]), np.array([2**33 - 1]))
    (runs,) = [module._merged([zeros, zeros, module._packed(np.array([0, 5]), np.array([9, 3]))])]
    found = module._as_table(runs, 2**34 + 10)
    assert found.sizes.tolist() == module._value(np.array([5, 0])).tolist()
    assert found.reach.tolist() == [3, 2**34 + 10] and found.reach.dtype == np.int64


@pytest.mark.parametrize("n", [10, N])
@pytest.mark.parametrize("bad", [float("inf"), float("-inf"), float("nan")])
def test_entries_that_are_no_finite_numbers_are_refused(n, bad):
    values = torch.stack([random(n), random(n).index_fill(0, torch.tensor([n // 2]), bad)])
    with pytest.raises(MergeError, match=r"parent 2 .*Leave it out"):
        Entries.of(values).each(magnitudes)
