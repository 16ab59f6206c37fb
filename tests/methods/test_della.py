"""DELLA against its formulas, over masks drawn from the words of `masks`."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evomerge.errors import MergeError
from evomerge.methods.della import keep_probabilities
from evomerge.methods.entries import Entries
from evomerge.methods.masks import END, WIDTH, entry_word, mask_key, shared_word
from evomerge.types import Blend
from tests.engine.held import CPU, NAME, digests, held, merged, merging, written

quick = settings(deadline=None, max_examples=25, derandomize=True)
densities = st.sampled_from([0.05, 0.5, 1.0, 0.0]) | st.floats(0.05, 0.99)
fractions = st.floats(0, 0.95)
weights = st.floats(0.1, 1.2)
shapes = st.lists(st.integers(1, 40), min_size=1, max_size=3).map(tuple)


def normal(shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def probabilities(delta: torch.Tensor, density: float, fraction: float) -> torch.Tensor:
    """float64 (*shape), by sorting twice as mergekit does. delta: without equal magnitudes."""
    width = delta.shape[-1]
    if width == 1 or not 0 < density < 1:
        return torch.full(delta.shape, min(max(density, 0.0), 1.0), dtype=torch.float64)
    rank = delta.abs().argsort(dim=-1).argsort(dim=-1).double()
    epsilon = fraction * min(density, 1 - density)
    return density - epsilon + rank / (width - 1) * 2 * epsilon


def uniforms(deltas: list[torch.Tensor]) -> list[torch.Tensor]:
    """float64 (*shape) per parent, in [0, 1]: the random numbers of the engine's entries."""
    n = deltas[0].numel()
    keys = (mask_key(0, "", NAME), *(mask_key(0, digest, NAME) for digest in digests(len(deltas))))
    words = Entries.of(torch.stack(deltas), keys).words().repeat_interleave(WIDTH, dim=1)[:, :n]
    shared = shared_word((torch.arange(n) % WIDTH).to(torch.int32), words[0])
    return [(entry_word(shared, row).double() / END + 1).view(deltas[0].shape) / 2 for row in words[1:]]


def survivors(deltas: list[torch.Tensor], density: list[float], fraction: list[float], rescale: str) -> torch.Tensor:
    """float64 (P, *shape)"""
    found = []
    for delta, d, f, u in zip(deltas, density, fraction, uniforms(deltas), strict=True):
        p, delta = probabilities(delta, d, f), delta.double()
        kept = torch.where((u < p) | (p == 1), delta, 0.0)
        if rescale == "inv_p":
            kept = kept / p.clamp(min=1e-9)
        elif rescale == "l1" and kept.abs().sum() > 1e-7:
            kept = kept * (delta.abs().sum() / kept.abs().sum())
        found.append(kept)
    return torch.stack(found)


@st.composite
def knobs(draw, parents: int = 3) -> dict[str, tuple[float, ...]]:
    each = {"weight": weights, "density": densities, "epsilon_frac": fractions}
    return {name: tuple(draw(values) for _ in range(parents)) for name, values in each.items()}


# ---------------------------------------------------------------- formulas


@quick
@given(shapes, densities, fractions)
def test_probabilities_rise_with_the_rank_from_density_less_epsilon_to_density_plus_epsilon(shape, density, fraction):
    delta = normal(shape)
    found = keep_probabilities(Entries.of(delta[None]), density, fraction)[0]
    torch.testing.assert_close(found.double(), probabilities(delta, density, fraction), rtol=0, atol=2e-7)


@quick
@given(shapes, knobs(), st.sampled_from(["none", "l1", "inv_p"]), st.booleans(), st.floats(0.3, 1.8))
def test_della_linear_is_the_weighted_sum_of_the_survivors(shape, drawn, rescale, normalize, scale):
    deltas = [normal(shape, seed) for seed in range(3)]
    kept = survivors(deltas, drawn["density"], drawn["epsilon_frac"], rescale)
    weight = torch.tensor(drawn["weight"], dtype=torch.float64)
    wanted = scale * torch.tensordot(weight, kept, 1) / (weight.sum() if normalize else 1)
    found = merged("della_linear", deltas, rescale=rescale, normalize=normalize, scale=scale, **drawn)
    torch.testing.assert_close(found.double(), wanted, rtol=1e-4, atol=1e-5)


@quick
@given(shapes, knobs(), st.sampled_from(["none", "l1", "inv_p"]), st.booleans())
def test_della_adds_the_survivors_of_the_elected_sign(shape, drawn, rescale, normalize):
    deltas = [normal(shape, seed) for seed in range(3)]
    weight = torch.tensor(drawn["weight"], dtype=torch.float64).view(-1, *[1] * len(shape))
    weighted = weight * survivors(deltas, drawn["density"], drawn["epsilon_frac"], rescale)
    agree = weighted.sign() == torch.where(weighted.sum(0) >= 0, 1.0, -1.0)
    divisor = (weight * agree).sum(0)
    wanted = (weighted * agree).sum(0) / (torch.where(divisor == 0, 1.0, divisor) if normalize else 1)
    found = merged("della", deltas, rescale=rescale, normalize=normalize, **drawn)
    clear = weighted.sum(0).abs() > 1e-5  # rounding may turn an even vote either way
    torch.testing.assert_close(found.double()[clear], wanted[clear], rtol=1e-4, atol=1e-5)


@quick
@given(shapes, st.tuples(densities, densities), st.sampled_from(["none", "l1", "inv_p"]))
def test_with_no_window_della_is_dare(shape, density, rescale):
    deltas, shared = [normal(shape, seed) for seed in range(2)], {"density": density, "rescale": rescale, "scale": 0.7}
    for name in ("linear", "ties"):
        found = merged(
            "della" if name == "ties" else "della_linear", deltas, epsilon_frac=0.0, normalize=False, **shared
        )
        torch.testing.assert_close(found, merged(f"dare_{name}", deltas, **shared), rtol=1e-5, atol=1e-6)


# ---------------------------------------------------------------- the law


def test_large_entries_of_a_row_are_kept_more_often_than_small_ones():
    delta = normal((1024, 256), seed=5)
    kept = merged("della_linear", [delta], density=0.4, epsilon_frac=0.9, rescale="none") != 0
    rank = delta.abs().argsort(dim=1).argsort(dim=1)
    for quarter in range(4):
        inside = rank // 64 == quarter
        wanted = float(probabilities(delta, 0.4, 0.9)[inside].mean())
        assert abs(float(kept[inside].double().mean()) - wanted) < 4 * 0.5 / float(inside.sum()) ** 0.5


def test_rows_of_one_entry_are_kept_with_the_density():
    kept = merged("della_linear", [torch.ones(10_000, 1)], density=0.3, epsilon_frac=0.9, rescale="none")
    assert abs(float(kept.double().mean()) - 0.3) < 4 * (0.3 * 0.7 / 10_000) ** 0.5


def test_probabilities_are_those_of_one_row_in_a_vector():
    delta = normal((300,))
    found = keep_probabilities(Entries.of(delta[None]), 0.5, 0.5)[0]
    assert float(found[delta.abs().argmin()]) == 0.25 and float(found[delta.abs().argmax()]) == 0.75


# ---------------------------------------------------------------- bounds and bad input


@pytest.mark.parametrize("density", [1e-7, 1e-4])
def test_the_gain_holds_where_probabilities_are_next_to_nothing(density):
    family, blend = held([torch.ones(2048, 1024)]), Blend("della_linear", {"density": density})
    gain = merging(family, blend)._pass(family, CPU).settled.gain
    assert float(written(family, blend).max()) <= gain < 4 / density


@pytest.mark.parametrize("fraction", [-0.1, 1.0, 1.5])
def test_a_window_beyond_0_and_1_is_refused(fraction):
    with pytest.raises(MergeError, match=rf"epsilon_frac is {fraction}, and must be at least 0 and less than 1"):
        merged("della", [torch.ones(2, 2)], density=0.5, epsilon_frac=fraction)
