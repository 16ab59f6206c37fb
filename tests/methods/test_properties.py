"""What must hold for every method, or for what the methods are made of, whatever the shape and the numbers."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from evomerge.errors import ConfigError, MergeError
from evomerge.methods import METHODS
from evomerge.methods.masks import Region, entire, mask_key
from evomerge.methods.sparsify import cut, kth_largest, trim

quick = settings(deadline=None, max_examples=25, derandomize=True)
each = pytest.mark.parametrize("name", METHODS)
consensus = pytest.mark.parametrize("name", ["ties", "dare_linear", "dare_ties"])

some = st.integers(1, 4)
shapes = st.lists(st.integers(1, 33), min_size=1, max_size=3).map(tuple) | st.just((1,))
densities = st.sampled_from([0.0, 0.01, 0.2, 0.5, 0.9, 1.0]) | st.floats(0.01, 1)


@st.composite
def values(draw, n_parents=some):
    """float32 (P, *shape): normal numbers, few distinct ones (many equal magnitudes and zeros), all zero, all equal."""
    shape = (draw(n_parents), *draw(shapes))
    random = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    kind = draw(st.sampled_from(["normal", "normal", "few", "few", "tiny", "zero", "equal"]))
    if kind in ("zero", "equal"):
        return torch.full(shape, 0.0 if kind == "zero" else 0.7)
    if kind == "few":
        return torch.randint(-2, 3, shape, generator=random) / 4
    return torch.randn(shape, generator=random) * (1e-9 if kind == "tiny" else 1.0)


@st.composite
def knob_values(draw, method, n_parents):
    """Every knob of the method within its range, per-parent ones as tuples."""
    drawn = {}
    for knob in method.knobs:
        one = st.sampled_from(knob.values) if knob.scale == "choice" else st.floats(knob.low, knob.high)
        if knob.name == "density":
            one = densities
        drawn[knob.name] = tuple(draw(one) for _ in range(n_parents)) if knob.per_parent else draw(one)
    return drawn


def parents_for(method):
    low, high = method.arity
    return st.integers(low, high or 4)


def window_for(tensors, box=None, seed=0):
    keys = tuple(mask_key(seed, str(k), "layer.weight") for k in range(len(tensors)))
    whole = tuple(tensors.shape[1:])
    return Region(whole, box or entire(whole), keys)


def merge(name, tensors, **knobs):
    method, window = METHODS[name], window_for(tensors)
    stats = method.prepare(tensors, window=window, **knobs) if method.prepare else None
    return method.fn(tensors, window=window, stats=stats, **knobs)


def bits(x):
    return x.contiguous().view(torch.int32)


@each
@quick
@given(data=st.data())
def test_a_slice_is_bit_equal_to_the_slice_of_the_whole(name, data):
    method = METHODS[name]
    if method.scope != "slice":
        return
    tensors = data.draw(values(parents_for(method)))
    knobs = data.draw(knob_values(method, len(tensors)))
    edges = [sorted(data.draw(st.tuples(st.integers(0, n), st.integers(0, n)))) for n in tensors.shape[1:]]
    box = tuple(slice(a, b) for a, b in edges)
    window = window_for(tensors)
    stats = method.prepare(tensors, window=window, **knobs) if method.prepare else None
    whole = method.fn(tensors, window=window, stats=stats, **knobs)
    part = method.fn(tensors[(slice(None), *box)], window=window_for(tensors, box), stats=stats, **knobs)
    assert part.shape == whole[box].shape and part.dtype == torch.float32
    assert torch.equal(bits(part), bits(whole[box]))


@each
@quick
@given(data=st.data())
def test_finite_values_merge_to_finite_ones_and_stay_as_they_were(name, data):
    method = METHODS[name]
    tensors = data.draw(values(parents_for(method)))
    before = tensors.clone()
    knobs = data.draw(knob_values(method, len(tensors)))
    if name == "linear":
        assume(sum(knobs["weight"]) > 1e-3)  # a weight sum of zero must be refused by who chooses the weights
    result = merge(name, tensors, **knobs)
    assert result.shape == tensors.shape[1:] and bool(result.isfinite().all())
    assert torch.equal(tensors, before) and result.data_ptr() != tensors.data_ptr()


@each
@quick
@given(data=st.data())
def test_one_number_means_the_same_for_every_parent(name, data):
    method = METHODS[name]
    tensors = data.draw(values(parents_for(method)))
    knobs = data.draw(knob_values(method, len(tensors)))
    plain = {k.name: knobs[k.name][0] if k.per_parent else knobs[k.name] for k in method.knobs}
    spread = {k.name: (plain[k.name],) * len(tensors) if k.per_parent else plain[k.name] for k in method.knobs}
    assert torch.equal(bits(merge(name, tensors, **plain)), bits(merge(name, tensors, **spread)))


def test_a_wrong_number_of_weights_is_refused():
    with pytest.raises(MergeError, match="weight has 2 numbers for 3 parents"):
        merge("linear", torch.ones(3, 2), weight=(0.5, 0.5))


@consensus
def test_an_unknown_rescale_is_refused(name):
    with pytest.raises(ConfigError, match=r"unknown rescale 'inv_q'\. Did you mean 'inv_p'"):
        merge(name, torch.ones(1, 2), rescale="inv_q")


# ---------------------------------------------------------------- averages


@quick
@given(values(st.just(1)), st.lists(st.floats(0.01, 1), min_size=1, max_size=5), st.booleans())
def test_identical_parents_average_to_themselves(parent, weights, normalize):
    weights = tuple(w / sum(weights) for w in weights)
    parents = parent.expand(len(weights), *parent.shape[1:])
    torch.testing.assert_close(merge("linear", parents, weight=weights, normalize=normalize), parent[0])


@quick
@given(values(st.just(1)), st.floats(0, 1))
def test_the_arc_between_identical_parents_is_a_point(parent, t):
    same = parent.expand(2, *parent.shape[1:])
    if parent.abs().max() < 1e-6:  # too short to have a direction: taken as orthogonal, so only near
        assert merge("slerp", same, t=t).abs().max() <= 2e-6
    else:
        torch.testing.assert_close(merge("slerp", same, t=t), parent[0])


@quick
@given(values(st.just(2)))
def test_the_arc_ends_at_the_parents(parents):
    torch.testing.assert_close(merge("slerp", parents, t=0.0), parents[0])
    torch.testing.assert_close(merge("slerp", parents, t=1.0), parents[1])


@quick
@given(st.integers(2, 200), st.floats(-0.99, 0.99), st.floats(0, 1))
def test_the_arc_keeps_the_norm_and_divides_the_angle(n, cosine, t):
    ends = torch.zeros(2, n)
    ends[0, 0], ends[1, 0], ends[1, n - 1] = 1.0, cosine, math.sqrt(1 - cosine**2)
    point = merge("slerp", ends, t=t)
    assert point.norm().item() == pytest.approx(1, abs=1e-5)
    assert point[0].item() == pytest.approx(math.cos(t * math.acos(cosine)), abs=1e-5)


@quick
@given(values(), st.floats(0.3, 1.8), st.booleans())
def test_task_arithmetic_is_linear_in_its_scale(deltas, scale, normalize):
    once = merge("task_arithmetic", deltas, weight=0.6, normalize=normalize)
    torch.testing.assert_close(
        merge("task_arithmetic", deltas, weight=0.6, scale=scale, normalize=normalize), once * scale
    )


def test_weights_that_cancel_are_not_normalised():
    deltas = torch.tensor([[1.0, 2.0], [0.5, 4.0]])
    assert merge("task_arithmetic", deltas, weight=(1.0, -1.0), normalize=True).tolist() == [0.5, -2.0]


@quick
@given(values(), st.floats(-2, 2))
def test_passthrough_scales(tensors, scale):
    assert torch.equal(merge("passthrough", tensors[:1], scale=scale), tensors[0] * scale)
    assert torch.equal(merge("passthrough", tensors[:1], scale=None), tensors[0])


# ---------------------------------------------------------------- trimming


@quick
@given(values(), st.floats(0.001, 0.999))
def test_trim_keeps_exactly_k_the_largest_and_of_equals_the_first(deltas, density):
    deltas = deltas.masked_fill(deltas == 0, 0.125)  # a zero that is kept would look like one that is not
    kept = trim(deltas, [cut(delta, density) for delta in deltas], window_for(deltas))
    for delta, rest in zip(deltas.flatten(1), kept, strict=True):
        k = max(1, int(density * len(delta)))
        first = (-delta.abs()).sort(stable=True).indices[:k]
        assert torch.equal(rest.flatten(), torch.zeros_like(delta).index_put((first,), delta[first]))
        assert int(rest.count_nonzero()) == k


@quick
@given(st.lists(st.floats(0, 2.0**100, width=32), min_size=1, max_size=300), st.data())
def test_kth_largest_is_that_of_a_sort(numbers, data):
    k = data.draw(st.integers(1, len(numbers)))
    assert kth_largest(torch.tensor(numbers), k) == sorted(numbers, reverse=True)[k - 1]


def test_a_nan_in_a_parent_is_not_trimmed_away():
    deltas = torch.tensor([[1.0, math.nan, 3.0, 0.5], [0.1, 0.2, 0.3, 0.4]])
    for density in (0.25, 0.5, 1.0):
        assert merge("ties", deltas, density=density).isnan().tolist() == [False, True, False, False]
    assert merge("ties", torch.full((1, 4), math.nan), density=0.5).isnan().all()


@quick
@given(values(), st.data())
def test_the_order_of_parents_does_not_matter_to_ties(deltas, data):
    deltas = (deltas * 64).round() / 64  # sums are exact: rounding may turn an even vote either way
    n = len(deltas)
    weights = data.draw(st.lists(st.sampled_from([-0.25, 0.5, 1.0, 1.5]), min_size=n, max_size=n))
    density = data.draw(st.lists(densities, min_size=n, max_size=n))
    order = data.draw(st.permutations(range(n)))
    one = merge("ties", deltas, weight=tuple(weights), density=tuple(density))
    other = merge(
        "ties", deltas[order], weight=tuple(weights[k] for k in order), density=tuple(density[k] for k in order)
    )
    torch.testing.assert_close(one, other)


@quick
@given(values(st.just(1)), st.integers(1, 4))
def test_identical_parents_agree_with_themselves(delta, n):
    torch.testing.assert_close(merge("ties", delta.expand(n, *delta.shape[1:])), delta[0])


@consensus
@pytest.mark.parametrize("rescale", ["l1", "inv_p"])
def test_rescaling_restores_the_norm_or_the_expectation(name, rescale):
    delta = torch.randn(1, 300, 200, generator=torch.Generator().manual_seed(1))
    kept, rescaled = (merge(name, delta, density=0.3, rescale=r) for r in ("none", rescale))
    factor = 1 / 0.3 if rescale == "inv_p" else delta.abs().sum() / kept.abs().sum()
    torch.testing.assert_close(rescaled, kept * factor)
    assert (kept == 0).float().mean().item() == pytest.approx(0.7, abs=1e-5 if name == "ties" else 0.01)


# ---------------------------------------------------------------- dropping


@quick
@given(values(), st.data())
def test_dare_at_density_1_is_what_follows_it(deltas, data):
    knobs = data.draw(knob_values(METHODS["dare_ties"], len(deltas))) | {"density": 1.0}
    consensus_knobs = knobs | {"rescale": "none"}
    linear_knobs = {name: knobs[name] for name in ("weight", "scale", "normalize")}
    assert torch.equal(merge("dare_linear", deltas, **knobs), merge("task_arithmetic", deltas, **linear_knobs))
    assert torch.equal(merge("dare_ties", deltas, **knobs), merge("ties", deltas, **consensus_knobs))


@consensus
@quick
@given(deltas=values(), rescale=st.sampled_from(["none", "l1", "inv_p"]))
def test_density_0_leaves_the_base(name, deltas, rescale):
    assert torch.equal(merge(name, deltas, density=0.0, rescale=rescale), torch.zeros(deltas.shape[1:]))


@quick
@given(st.integers(1, 2**24 - 1), st.integers(0, 2**32))
def test_an_entry_is_kept_if_its_number_is_below_the_density(grid_point, seed):
    ones = torch.ones(1, 4000)
    window, density = window_for(ones, seed=seed), grid_point / 2**24
    kept = METHODS["dare_linear"].fn(ones, window=window, stats=(1.0,), density=density)
    assert torch.equal(kept == 1, window.uniforms()[0] < density)
    edge = window.uniforms().max().item()  # a density that is one of the numbers drops just that entry
    assert METHODS["dare_linear"].fn(ones, window=window, stats=(1.0,), density=edge).sum() < 4000


def test_dare_is_unbiased_over_seeds():
    deltas = torch.tensor([[1.0, -2.0, 0.5], [0.3, 0.3, 4.0]])
    method, total, n = METHODS["dare_linear"], torch.zeros(3), 1000
    for seed in range(n):
        window = window_for(deltas, seed=seed)
        stats = method.prepare(deltas, window=window, density=0.5)
        total += method.fn(deltas, window=window, stats=stats, density=0.5)
    spread = deltas.square().sum(0).sqrt()  # of one draw, since (1 - p) / p is 1
    assert bool(((total / n - deltas.sum(0)).abs() < 4 * spread / math.sqrt(n)).all())
