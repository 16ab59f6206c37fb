"""RAM and RAM+ against their formulas in float64."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evomerge.errors import MergeError
from evomerge.methods import ram
from evomerge.types import Blend
from tests.engine.held import held, merged, written

quick = settings(deadline=None, max_examples=40, derandomize=True)
thresholds = st.sampled_from([0.0, 1e-7, 1e-5, 0.4])


@st.composite
def sparse(draw) -> list[torch.Tensor]:
    """float32 differences of which a share is 0 and some lie about the thresholds."""
    shape = tuple(draw(st.lists(st.integers(1, 33), max_size=3)))
    random = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    share = draw(st.sampled_from([0.0, 0.3, 0.9]))

    def one() -> torch.Tensor:
        value = torch.randn(shape, generator=random) * 10.0 ** -torch.randint(0, 8, shape, generator=random)
        return value * (torch.rand(shape, generator=random) >= share)

    return [one() for _ in range(draw(st.integers(1, 5)))]


def reference(deltas: list[torch.Tensor], epsilon: float, r: float = 0.0, alpha: float = 0.0) -> torch.Tensor:
    """float64 (*shape), as mergekit has it."""
    stack = torch.stack(deltas)
    present = stack.abs() > epsilon
    count = present.sum(0)
    axes = tuple(range(1, stack.dim()))
    shared, own = (
        (present & where).sum(dim=axes) if axes else (present & where).long() for where in (count > 1, count == 1)
    )
    rho = shared.double() / own.clamp(min=epsilon).double()
    boost = 1 + r * rho.nan_to_num(nan=0.0).clamp(0, alpha).view(-1, *[1] * (stack.dim() - 1))
    value = stack.double() * present
    return (value * (count == 1) * boost + value * (count > 1) / count.clamp(min=1)).sum(0)


@quick
@given(sparse(), thresholds)
def test_ram_averages_what_is_shared_and_adds_what_one_parent_has(deltas, epsilon):
    found = merged("ram", deltas, epsilon=epsilon).double()
    torch.testing.assert_close(found, reference(deltas, epsilon), rtol=1e-5, atol=1e-7)


@quick
@given(sparse(), thresholds, st.floats(0, 2), st.floats(0, 2))
def test_ramplus_enlarges_what_one_parent_has_by_what_it_shares(deltas, epsilon, r, alpha):
    found = merged("ramplus_tl", deltas, epsilon=epsilon, r=r, alpha=alpha).double()
    torch.testing.assert_close(found, reference(deltas, epsilon, r, alpha), rtol=1e-5, atol=1e-7)


@quick
@given(sparse(), st.data())
def test_the_order_of_parents_does_not_matter(deltas, data):
    turned = data.draw(st.permutations(deltas))
    for name in ("ram", "ramplus_tl"):
        torch.testing.assert_close(merged(name, turned), merged(name, deltas), rtol=1e-5, atol=1e-7)


def test_counts_are_exact_over_many_blocks():
    random = torch.Generator().manual_seed(1)
    deltas = [(torch.rand(700, 301, generator=random) < share).float() for share in (0.1, 0.5, 0.9)]
    present = torch.stack(deltas) > 0
    several = present.sum(0) > 1
    wanted = [(int((p & several).sum()), int((p & ~several).sum())) for p in present]
    assert list(ram.counts(ram.Entries.of(torch.stack(deltas)), 1e-5)) == wanted


def test_a_new_epsilon_is_counted_anew():
    deltas = [torch.tensor([1e-3, 1.0, 1.0]), torch.tensor([1e-3, 0.0, 1.0])]
    family = held(deltas)
    for epsilon in (1e-5, 1e-2, 1e-5):
        blend = Blend("ramplus_tl", {"epsilon": epsilon, "r": 1.0, "alpha": 9.0})
        torch.testing.assert_close(written(family, blend).double(), reference(deltas, epsilon, 1.0, 9.0))


def test_the_compiled_loop_has_the_bits_of_the_eager_one():
    deltas = [torch.randn(90, 1000, generator=torch.Generator().manual_seed(k)) for k in range(3)]
    blend = Blend("ramplus_tl", {"epsilon": 0.7, "alpha": 2.0})
    eager, compiled = (written(held(deltas, compiles=c), blend) for c in (False, True))
    assert torch.equal(eager.view(torch.int32), compiled.view(torch.int32))


@pytest.mark.parametrize("name", ["ram", "ramplus_tl"])
def test_a_negative_epsilon_is_refused(name):
    with pytest.raises(MergeError, match="epsilon is -1e-05; wanted 0 or more"):
        merged(name, [torch.ones(2)], epsilon=-1e-5)
