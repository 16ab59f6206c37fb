"""TIES against its algorithm with plain sorts, on one tensor and over a whole model."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evomerge.engine.passes import Pass
from evomerge.engine.pieces import Inputs
from evomerge.engine.sources import Stored
from evomerge.errors import ConfigError, MergeError
from evomerge.methods.entries import CPU, Entries
from evomerge.methods.order import EXACT
from evomerge.methods.ties import METHOD, count, settle

quick = settings(deadline=None, max_examples=50, derandomize=True)
WEIGHTS = st.floats(-0.5, 1.5).map(lambda x: round(x, 3))


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def merging(entries: Entries, values: torch.Tensor, **knobs: object) -> Pass:
    sources = [Stored(value, CPU) for value in values]
    return Pass(settle(entries, **knobs), Inputs(sources, None, entries))


def merged(values: torch.Tensor, entries: Entries | None = None, **knobs: object) -> torch.Tensor:
    """float32 (*shape): differences (P, *shape) from a base of zeros, as the engine merges them."""
    entries = entries or Entries.of(values)
    out = torch.full((entries.n,), float("nan"))
    merging(entries, values, **knobs).flat(0, entries.n, out)
    return out.view(entries.shape)


def trimmed(value: torch.Tensor, keep: int) -> torch.Tensor:
    kept = torch.zeros(value.numel(), dtype=torch.bool)
    kept[value.abs().flatten().argsort(descending=True)[:keep]] = True
    return value * kept.view_as(value)


def elected(trims: list[torch.Tensor], weights: list[float], scale: float, normalize: bool) -> torch.Tensor:
    """Algorithm 1 with weights, in float32."""
    weighted = torch.stack([w * x for w, x in zip(weights, trims, strict=True)])
    sign = torch.where(weighted.sum(0) >= 0, 1.0, -1.0)
    agree = weighted.sign() == sign
    shares = torch.tensor(weights).view(-1, *[1] * sign.dim()) * agree
    divisor = shares.sum(0)
    divisor[divisor == 0] = 1
    return (weighted * agree).sum(0) / (divisor if normalize else 1) * scale


@quick
@given(
    shape=st.lists(st.integers(1, 40), min_size=1, max_size=2),
    seed=st.integers(0, 2**32),
    parents=st.lists(st.tuples(st.floats(0.05, 1.1), st.integers(1, 12)), min_size=1, max_size=4),
    scale=st.sampled_from([1.0, 0.4]),
    normalize=st.booleans(),
)
def test_it_is_the_algorithm_of_the_paper(shape, seed, parents, scale, normalize):
    values = random(len(parents), *shape, seed=seed)
    densities, weights = [p for p, _ in parents], [w / 8 for _, w in parents]
    trims = [trimmed(x, count(p, x.numel())) for x, p in zip(values, densities, strict=True)]
    wanted = elected(trims, weights, scale, normalize)
    found = merged(values, weight=weights, density=densities, scale=scale, normalize=normalize)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)


def test_l1_restores_the_norm_that_the_trim_took():
    values = random(1, 30, 20)
    trim = trimmed(values[0], 120)
    found = merged(values, density=0.2, rescale="l1")
    torch.testing.assert_close(found, trim * values.abs().sum() / trim.abs().sum())
    assert torch.allclose(merged(values, density=0.2, rescale="inv_p"), trim * 5)


@quick
@given(st.floats(0.001, 0.999), st.integers(1, 2000), st.integers(1, 6), st.integers(0, 2**32))
def test_a_trim_keeps_exactly_its_share_of_equal_magnitudes(density, n, levels, seed):
    values = torch.randint(1, levels + 1, (1, n), generator=torch.Generator().manual_seed(seed)).float()
    assert int(merged(values, density=density).count_nonzero()) == max(1, int(density * n))


def test_density_one_keeps_all_and_zero_none():
    values = random(2, 7, 5)
    torch.testing.assert_close(merged(values[:1], density=1.5), values[0])
    assert not merged(values, density=(0.0, -1.0)).any()


def tied() -> torch.Tensor:
    """Differences of few values, larger than what keeps exactly: the words split them."""
    return torch.randint(-3, 4, (2, 70, 1024), generator=torch.Generator().manual_seed(0)).float()


def test_any_slice_has_the_bits_of_the_whole():
    values, knobs = tied(), {"weight": (0.3, 0.6), "density": (0.2, 0.45)}
    assert values[0].numel() > EXACT
    entries, whole = Entries.of(values), merged(values, **knobs)
    box = (slice(3, 41), slice(100, 900))
    part, flat = torch.empty(38, 800), torch.empty(5000)
    merging(entries, values, **knobs).box(box, part)
    merging(entries, values, **knobs).flat(777, 5777, flat)
    assert torch.equal(part, whole[box]) and torch.equal(flat, whole.flatten()[777:5777])


@quick
@given(st.lists(WEIGHTS, min_size=3, max_size=3), st.booleans(), st.integers(0, 2**32))
def test_gain_bounds_what_comes_out(weights, normalize, seed):
    values = random(3, 50, seed=seed)
    knobs = {"weight": weights, "density": 0.5, "scale": 1.7, "normalize": normalize, "rescale": "l1"}
    bound = settle(Entries.of(values), **knobs).gain * float(values.abs().max())
    assert float(merged(values, **knobs).abs().max()) <= bound * (1 + 1e-5)


# ---------------------------------------------------------------- the whole model


def model(tensors: list[torch.Tensor]) -> list[Entries]:
    """Entries of each tensor, (P, *shape), that know of all."""
    found = [Entries.of(x, keys=(k, *range(100 + 9 * k, 100 + 9 * k + len(x)))) for k, x in enumerate(tensors)]
    learned: dict = {}
    for entries in found:
        entries.model, entries.model_learned = (lambda: found), learned
    return found


@pytest.mark.parametrize("rescale", ["none", "l1"])
def test_a_model_is_trimmed_as_one_long_tensor(rescale):
    tensors = [random(2, 30, 20), 3 * random(2, 7, seed=1), 0.5 * random(2, 4, 5, 6, seed=2)]
    knobs = {"weight": (0.4, 0.7), "density": (0.25, 0.6), "rescale": rescale}
    whole = merged(torch.cat([x.flatten(1) for x in tensors], 1), **knobs)
    parts = zip(tensors, model(tensors), strict=True)
    found = [merged(x, entries, scope="model", **knobs).flatten() for x, entries in parts]
    assert torch.equal(torch.cat(found), whole)


def test_equal_magnitudes_of_a_model_are_split_alike_in_all_tensors():
    tensors = [tied()[:1], torch.ones(1, 100_000)]
    (first, second), density = model(tensors), 0.6
    found = [merged(x, e, scope="model", density=density) for x, e in zip(tensors, (first, second), strict=True)]
    ones = [(x[0].abs() == 1) for x in tensors]
    assert all((y[x[0].abs() > 1] != 0).all() for x, y in zip(tensors, found, strict=True))
    shares = [float((y[one] != 0).float().mean()) for y, one in zip(found, ones, strict=True)]
    assert shares[0] == pytest.approx(shares[1], abs=0.02) and 0.1 < shares[0] < 0.9
    kept = sum(int(y.count_nonzero()) for y in found)
    assert kept == pytest.approx(density * sum(x.numel() for x in tensors), rel=0.005)


def test_a_model_is_read_once_for_all_its_tensors_and_candidates():
    tensors = [random(2, 30, 20).bfloat16().float(), random(2, 70).bfloat16().float()]
    entries, read = model(tensors), []
    for each in entries:
        each.read = lambda start, stop, parents, of=each.read: (read.append(stop - start), of(start, stop, parents))[1]
    for density in (0.2, 0.7):
        for each in entries:
            settle(each, density=density, scope="model")
    assert sum(read) == 2 * 670  # once for each parent


def test_a_scope_is_one_of_two_and_a_model_must_be_there():
    with pytest.raises(ConfigError, match=r"unknown scope 'models'. Did you mean 'model'"):
        merged(random(2, 5), scope="models")
    with pytest.raises(MergeError, match="scope"):
        merged(random(2, 5), scope="model")


def test_defaults_lie_in_their_ranges():
    for knob in METHOD.knobs:
        assert knob.default in knob.values if knob.values else knob.low <= knob.default <= knob.high
