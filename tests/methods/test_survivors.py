"""What the sparse methods keep of a parent: exactly so many entries, and how these make up for the rest."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evomerge.errors import ConfigError
from evomerge.methods import METHODS
from evomerge.methods.drawn import LARGE, LEVELS, level, norms
from evomerge.methods.entries import Entries
from evomerge.methods.masks import WIDTH, below, entry_words
from evomerge.types import Blend
from tests.engine.held import held, merged, written

quick = settings(deadline=None, max_examples=12, derandomize=True)
#: The kept entries of one parent are its largest, or random ones.
SPARSE = ["ties", "dare_linear", "dare_ties", "della", "della_linear", "breadcrumbs", "breadcrumbs_ties"]
RANDOM = [name for name in SPARSE if name.startswith("d")]


def survivors(name: str, delta: torch.Tensor, density: float, **knobs: Any) -> torch.Tensor:
    """bool: where one parent's difference is left. delta: without zeros."""
    return merged(name, [delta], density=density, normalize=False, rescale="none", **knobs) != 0


@st.composite
def deltas(draw, kinds: tuple[str, ...] = ("normal", "few", "equal")) -> torch.Tensor:
    """float32 (n,) without zeros, n to 2**16"""
    n = draw(st.sampled_from([1, 2, 2**16]) | st.integers(1, 2**16))
    random = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    kind = draw(st.sampled_from(kinds))
    if kind == "equal":
        return torch.full((n,), -0.125)
    if kind == "few":
        return torch.randint(1, 4, (n,), generator=random) / 8 * (1 - 2 * torch.randint(0, 2, (n,), generator=random))
    return torch.randn(n, generator=random) + 1e-20


@quick
@given(deltas(), st.floats(0.001, 0.999))
def test_ties_keeps_exactly_its_share_and_the_largest(delta, density):
    kept = survivors("ties", delta, density)
    assert int(kept.sum()) == max(1, int(density * len(delta)))
    assert kept.all() or delta[kept].abs().min() >= delta[~kept].abs().max()


@pytest.mark.parametrize("name, knobs", [("ties", {}), ("breadcrumbs", {}), ("dare_linear", {"rescale": "l1"})])
def test_what_is_learned_in_one_run_leaves_the_next_its_own_words(name, knobs):
    """Runs of one process share what they know of the parents, and differ in their seeds."""
    shape = (300, 300) if knobs else (40, 50)
    delta = torch.full(shape, 0.125)
    blend = Blend(name, {"density": 0.25, "normalize": False, **knobs})
    family = held([delta])
    found = [written(family, blend, seed=seed) for seed in (1, 2)]
    assert not torch.equal(*found)
    for seed, one in zip((1, 2), found, strict=True):
        assert torch.equal(one, written(held([delta]), blend, seed=seed))


@pytest.mark.parametrize("name", ["breadcrumbs", "breadcrumbs_ties"])
@quick
@given(delta=deltas(), density=st.floats(0.001, 1.0), gamma=st.floats(0.0, 0.5))
def test_breadcrumbs_keep_exactly_their_share_below_the_largest(name, delta, density, gamma):
    n = len(delta)
    kept = survivors(name, delta, density, gamma=gamma)
    keep = n if density >= 1 else int(density * n)
    bottom = max(0, n - keep - int(gamma * n))
    wanted = delta.abs().sort().values[bottom : bottom + keep]
    assert torch.equal(delta[kept].abs().sort().values, wanted)


@pytest.mark.parametrize("name", ["ties", *RANDOM])
@quick
@given(delta=deltas(("normal",)), densities=st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)))
def test_what_is_kept_at_one_density_is_kept_at_every_larger_one(name, delta, densities):
    few, more = (survivors(name, delta, density) for density in sorted(densities))
    assert bool((few <= more).all())


@pytest.mark.parametrize("name", RANDOM)
@pytest.mark.parametrize("density", [0.05, 0.3, 0.9])
def test_random_survivors_are_as_many_as_the_density_says(name, density):
    n = 1 << 16
    share = survivors(name, torch.randn(64, n // 64, generator=torch.Generator().manual_seed(3)), density).double()
    assert abs(float(share.mean()) - density) < 5 * (density * (1 - density) / n) ** 0.5


@pytest.mark.parametrize("name", [n for n in SPARSE if n.startswith("d") or n == "ties"])
def test_rescaling_restores_the_norm_or_the_expectation(name):
    delta = torch.randn(300, 200, generator=torch.Generator().manual_seed(1))
    kept = merged(name, [delta], density=0.3, rescale="none", normalize=False)
    same_norm = merged(name, [delta], density=0.3, rescale="l1", normalize=False)
    torch.testing.assert_close(same_norm, kept * (delta.abs().sum() / kept.abs().sum()))
    unbiased = merged(name, [delta], density=0.3, rescale="inv_p", normalize=False)
    assert torch.equal(unbiased != 0, kept != 0)
    if name.startswith("dare") or name == "ties":
        torch.testing.assert_close(unbiased, kept / 0.3)


@pytest.mark.parametrize("name", ["dare_linear", "dare_ties"])
@pytest.mark.parametrize("density", [1e-9, 0.3, 0.9999])
def test_the_norm_of_a_large_tensor_is_restored_though_it_is_looked_up(name, density):
    delta = torch.randn(311, 307, generator=torch.Generator().manual_seed(1))
    assert delta.numel() >= LARGE
    kept = merged(name, [delta], density=level(density), rescale="none", normalize=False)
    assert 0 < int(kept.count_nonzero()) < delta.numel()
    found = merged(name, [delta], density=density, rescale="l1", normalize=False)
    torch.testing.assert_close(found, kept * (delta.abs().sum() / kept.abs().sum()))


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
@pytest.mark.parametrize("shape", [(30, 257), (300, 257)])
def test_masses_that_are_looked_up_are_those_of_the_entries(scale, shape):
    values = scale * torch.randn(2, *shape, generator=torch.Generator().manual_seed(2))
    entries, densities, at = Entries.of(values), (0.25, level(0.7)), torch.arange(values[0].numel())
    drawn = entry_words((at % WIDTH).int(), entries.words()[:, at // WIDTH], 2)
    found = norms(entries, densities)
    for pair, value, word, density in zip(found, values.flatten(1).double().abs(), drawn, densities, strict=True):
        assert pair == pytest.approx([float(value.sum()), float(value[word < below(density)].sum())], rel=1e-9)


@quick
@given(st.floats(0, 1))
def test_the_level_of_a_density_is_next_to_it(density):
    assert abs(level(density) - density) <= 1 / LEVELS
    assert (level(density) == 0) == (density == 0) and (level(density) == 1) == (density == 1)


@pytest.mark.parametrize("name", ["dare_linear", "della_linear"])
def test_survivors_divided_by_their_probability_are_unbiased_over_seeds(name):
    deltas = [torch.tensor([[1.0, -2.0, 0.5]]), torch.tensor([[0.3, 0.3, 4.0]])]
    family, blend, n = held(deltas), Blend(name, {"density": 0.5, "rescale": "inv_p"}), 500
    mean = sum(written(family, blend, seed=seed) for seed in range(n)) / n
    largest = 1 / (0.5 * (1 - METHODS[name].knob("epsilon_frac").default)) if name == "della_linear" else 2.0
    spread = (largest - 1) ** 0.5 * torch.stack(deltas).square().sum(0).sqrt()  # of one draw, at most
    assert bool(((mean - sum(deltas)).abs() < 4 * spread / n**0.5).all())


@pytest.mark.parametrize("name", SPARSE)
@pytest.mark.parametrize("rescale", ["none", "l1"])
def test_density_0_leaves_the_base(name, rescale):
    base = torch.randn(7, 5, generator=torch.Generator().manual_seed(4))
    assert torch.equal(merged(name, [base + 1.0, base - 2.0], base, density=0.0, rescale=rescale), base)


@pytest.mark.parametrize("name", SPARSE)
def test_an_unknown_rescale_is_refused(name):
    with pytest.raises(ConfigError, match=r"unknown rescale 'inv_q'\. Did you mean 'inv_p'"):
        merged(name, [torch.ones(2)], rescale="inv_q")
