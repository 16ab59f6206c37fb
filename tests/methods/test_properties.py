"""What must hold for every method, whatever the shape, the numbers and the knobs."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from evomerge.engine import merging as engine
from evomerge.errors import MergeError
from evomerge.methods import METHODS, entries
from evomerge.types import Blend, Method
from tests.engine.held import CPU, Held, digests, held, merged, merging, written

quick = settings(deadline=None, max_examples=10, derandomize=True)
each = pytest.mark.parametrize("name", METHODS)
#: Knobs at which a method of equal parents is that parent.
FAITHFUL: dict[str, dict[str, Any]] = {
    "linear": {"weight": (0.2, 0.9, 0.4)},
    "slerp": {"t": 0.3},
    "nuslerp": {"weight": (0.2, 0.9)},
    "multislerp": {"weight": (0.2, 0.9, 0.4)},
    "karcher": {},
    "model_stock": {},
    "task_arithmetic": {"weight": (0.2, 0.9, 0.4), "normalize": True},
    "ties": {"weight": (0.2, 0.9, 0.4)},
    "dare_linear": {"normalize": True},
    "dare_ties": {"normalize": True},
    "della": {"weight": (0.2, 0.9, 0.4)},
    "della_linear": {"normalize": True},
    "breadcrumbs": {"gamma": 0.0, "normalize": True},
    "breadcrumbs_ties": {"gamma": 0.0, "normalize": True},
    "sce": {},
    "ram": {},
    "ramplus_tl": {"r": 0.0},
    "nearswap": {"t_quantile": 1.0},
    "passthrough": {},
}
#: Their maths tells the parents apart: the first one is where the arc begins.
ORDERED = {"slerp"}


@st.composite
def parents(draw, method: Method, largest: int = 33) -> list[torch.Tensor]:
    """float32 tensors: normal numbers, few distinct ones (many equal magnitudes and zeros), tiny, zero, all equal."""
    low, high = method.arity
    shape = tuple(draw(st.lists(st.integers(1, largest), min_size=0, max_size=3)))
    random = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    kind = draw(st.sampled_from(["normal", "normal", "few", "few", "tiny", "zero", "equal"]))

    def one() -> torch.Tensor:
        if kind in ("zero", "equal"):
            return torch.full(shape, 0.0 if kind == "zero" else 0.7)
        if kind == "few":
            return torch.randint(-2, 3, shape, generator=random) / 4
        return torch.randn(shape, generator=random) * (1e-9 if kind == "tiny" else 1.0)

    return [one() for _ in range(draw(st.integers(low, high or 4)))]


@st.composite
def knob_values(draw, method: Method, n_parents: int) -> dict[str, Any]:
    """Every knob of the method within its range, per-parent ones as tuples; none at all for those that are off."""
    drawn: dict[str, Any] = {}
    for knob in method.knobs:
        one = st.sampled_from(knob.values) if knob.scale == "choice" else st.floats(knob.low, knob.high)
        if knob.name == "density":
            one = st.sampled_from([0.01, 0.2, 0.5, 0.9, 1.0]) | st.floats(0.01, 1)
        if knob.default is None:
            one = st.none() | one
        drawn[knob.name] = tuple(draw(one) for _ in range(n_parents)) if knob.per_parent else draw(one)
    return drawn


@st.composite
def cases(draw, name: str, base: bool = False, largest: int = 33) -> tuple[Held, Blend]:
    """Parents in memory with a blend that has a value: weights that sum to zero and the like are drawn again."""
    tensors = draw(parents(METHODS[name], largest))
    ground = torch.randn(tensors[0].shape, generator=torch.Generator().manual_seed(1)) if base else None
    family = held([t if ground is None else t + ground for t in tensors], ground)
    return family, Blend(name, draw(knob_values(METHODS[name], len(tensors)).filter(partial(has_value, name, family))))


def has_value(name: str, family: Held, knobs: dict[str, Any]) -> bool:
    """Weights that sum to zero have no mean, directions that cancel none on the sphere."""
    if sum(_weights(knobs)) <= 1e-3:
        return False
    if name != "multislerp":
        return True
    try:
        merging(family, Blend(name, knobs))._pass(family, CPU)
    except MergeError as e:
        assert "cancel" in str(e)
        return False
    return True


def _weights(knobs: dict[str, Any]) -> tuple[float, ...]:
    weight = knobs.get("weight", 1.0)
    return weight if isinstance(weight, tuple) else (weight,)


def bits(x: torch.Tensor) -> torch.Tensor:
    return x.contiguous().view(torch.int32)


def box_of(family: Held, blend: Blend, box: tuple[slice, ...]) -> torch.Tensor:
    """float32 (*box)"""
    whole = torch.empty(family.shapes["w"])
    for part, values in merging(family, blend).boxes(family, box, CPU):
        whole[part] = values
    return whole[box]


# ---------------------------------------------------------------- parts of the whole


@each
@quick
@given(data=st.data())
def test_any_box_has_the_bits_of_the_whole(name, data):
    family, blend = data.draw(cases(name, base=data.draw(st.booleans())))
    edges = [sorted(data.draw(st.tuples(st.integers(0, n), st.integers(0, n)))) for n in family.shapes["w"]]
    box = tuple(slice(a, b) for a, b in edges)
    assert torch.equal(bits(box_of(family, blend, box)), bits(written(family, blend)[box]))


@each
@quick
@given(data=st.data())
def test_the_shards_of_four_ranks_are_the_whole(name, data):
    family, blend = data.draw(cases(name))
    shape = family.shapes["w"]
    whole = written(family, blend)
    for dim, size in enumerate(shape):
        cuts = [size * rank // 4 for rank in range(5)]
        ranges = [slice(a, b) for a, b in pairwise(cuts)]
        rest = [slice(0, n) for n in shape]
        shards = [box_of(family, blend, (*rest[:dim], part, *rest[dim + 1 :])) for part in ranges]
        assert torch.equal(bits(torch.cat(shards, dim)), bits(whole))


@each
@quick
@given(data=st.data())
def test_streaming_in_pieces_changes_no_bit(name, data):
    family, blend = data.draw(cases(name, base=True))
    whole = written(family, blend)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(entries.BLOCK, "cpu", 1024)
        patch.setattr(engine, "SLICE", data.draw(st.integers(1, 3000)))
        assert torch.equal(bits(written(family, blend)), bits(whole))
        assert torch.equal(bits(box_of(family, blend, tuple(slice(0, n) for n in whole.shape))), bits(whole))


@each
@quick
@given(data=st.data())
def test_what_is_learned_of_a_tensor_does_not_depend_on_the_blocks_it_is_read_in(name, data):
    family, blend = data.draw(cases(name, base=True))
    whole = written(family, blend)
    family.learned.clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(entries.BLOCK, "cpu", data.draw(st.integers(1, 3000)))
        torch.testing.assert_close(written(family, blend), whole)


@each
@quick
@given(data=st.data())
def test_what_was_learned_for_another_candidate_changes_no_bit(name, data):
    family, blend = data.draw(cases(name, base=True))
    others = knob_values(METHODS[name], len(family.tensors) - 1).filter(partial(has_value, name, family))
    other = Blend(name, data.draw(others))
    fresh = written(family, blend)
    family.learned.clear()
    written(family, other)
    assert torch.equal(bits(written(family, blend)), bits(fresh))


# ---------------------------------------------------------------- values


@each
@quick
@given(data=st.data())
def test_finite_parents_merge_to_finite_entries_and_stay_as_they_were(name, data):
    family, blend = data.draw(cases(name))
    before = {digest: tensor.clone() for digest, tensor in family.tensors.items()}
    result = written(family, blend)  # raises on NaN and infinity
    assert bool(result.isfinite().all())
    assert all(torch.equal(tensor, before[digest]) for digest, tensor in family.tensors.items())


@each
@quick
@given(data=st.data())
def test_the_gain_bounds_the_result(name, data):
    family, blend = data.draw(cases(name))
    settled = merging(family, blend)._pass(family, CPU).settled
    largest = max(float(tensor.abs().max()) for digest, tensor in family.tensors.items() if digest != "base")
    assert float(written(family, blend).abs().max()) <= settled.gain * largest * (1 + 1e-5) + 1e-30


@each
@quick
@given(data=st.data())
def test_one_number_means_the_same_for_every_parent(name, data):
    family, blend = data.draw(cases(name))
    plain = {k: v[0] if METHODS[name].knob(k).per_parent else v for k, v in blend.knobs.items()}
    n = len(family.tensors) - 1
    spread = {k: (v,) * n if METHODS[name].knob(k).per_parent else v for k, v in plain.items()}
    assume(has_value(name, family, spread))
    assert torch.equal(bits(written(family, Blend(name, plain))), bits(written(family, Blend(name, spread))))


@each
@quick
@given(data=st.data())
def test_parents_equal_to_their_base_give_the_base(name, data):
    family, blend = data.draw(cases(name))
    if not METHODS[name].on_deltas(blend.knobs):
        return
    base = torch.randn(family.shapes["w"], generator=torch.Generator().manual_seed(3))
    same = Held({digest: base for digest in family.tensors})
    assert torch.equal(written(same, blend), base)


@pytest.mark.parametrize("name", FAITHFUL)
@quick
@given(data=st.data())
def test_identical_parents_give_the_parent(name, data):
    _, high = METHODS[name].arity
    parent, *_ = data.draw(parents(METHODS[name]))
    knobs = FAITHFUL[name]
    n = len(knobs["weight"]) if "weight" in knobs else min(high or 3, 3)
    base = torch.randn(parent.shape, generator=torch.Generator().manual_seed(2))
    if name == "multislerp" or parent.abs().max() < 1e-6:
        parent = parent + base  # too short for a direction
    torch.testing.assert_close(merged(name, [parent] * n, base, **knobs), parent, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("name", [m.name for m in METHODS.values() if m.arity[1] != 1 and m.name not in ORDERED])
@quick
@given(data=st.data())
def test_the_order_of_parents_does_not_matter(name, data):
    """Values, weights and their sums are exact in float32: rounding may turn an even vote either way.

    On the sphere directions are near each other: opposite ones have no mean.
    """
    away = 8.0 if name in ("karcher", "multislerp") else 0.0
    tensors = [(t * 64).round() / 64 + away for t in data.draw(parents(METHODS[name]))]
    n = len(tensors)
    order = data.draw(st.permutations(range(n)))
    per_parent = {"weight": [0.25, 0.5, 1.0, 1.5], "density": [0.25, 0.5, 1.0]}
    knobs: dict[str, Any] = {"rescale": "none"} if METHODS[name].knob("rescale") else {}
    for knob, values in per_parent.items():
        if METHODS[name].knob(knob):
            knobs[knob] = tuple(data.draw(st.sampled_from(values)) for _ in range(n))
    turned = {k: tuple(v[i] for i in order) if isinstance(v, tuple) else v for k, v in knobs.items()}
    family = held(tensors)
    names = digests(n)
    other = written(family, Blend(name, turned), parents=[names[i] for i in order])
    torch.testing.assert_close(written(family, Blend(name, knobs)), other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "name, follower", [("dare_linear", "task_arithmetic"), ("dare_ties", "ties"), ("della", "ties")]
)
@quick
@given(data=st.data())
def test_at_density_1_a_sparse_method_is_what_follows_it(name, follower, data):
    family, blend = data.draw(cases(name))
    shared = {k: v for k, v in blend.knobs.items() if METHODS[follower].knob(k)} | {
        "normalize": blend.knobs["normalize"]
    }
    dense = written(family, Blend(name, {**blend.knobs, "density": 1.0}))
    other = written(family, Blend(follower, {k: 1.0 if k == "density" else v for k, v in shared.items()}))
    torch.testing.assert_close(dense, other, rtol=1e-6, atol=1e-6)


# ---------------------------------------------------------------- particular ones


def test_a_wrong_number_of_weights_is_refused():
    with pytest.raises(MergeError, match="weight has 2 numbers for 3 parents"):
        merged("linear", [torch.ones(2)] * 3, weight=(0.5, 0.5))


@quick
@given(st.floats(0.3, 1.8), st.booleans())
def test_task_arithmetic_is_linear_in_its_scale(scale, normalize):
    tensors = [torch.randn(9, 4, generator=torch.Generator().manual_seed(k)) for k in range(3)]
    once = merged("task_arithmetic", tensors, weight=0.6, normalize=normalize)
    scaled = merged("task_arithmetic", tensors, weight=0.6, scale=scale, normalize=normalize)
    torch.testing.assert_close(scaled, once * scale)


def test_weights_that_cancel_are_not_normalised():
    deltas = [torch.tensor([1.0, 2.0]), torch.tensor([0.5, 4.0])]
    assert merged("task_arithmetic", deltas, weight=(1.0, -1.0), normalize=True).tolist() == [0.5, -2.0]


@pytest.mark.parametrize("scale", [-2.0, 0.5, None])
def test_passthrough_scales(scale):
    parent = torch.randn(3, 4, generator=torch.Generator().manual_seed(5))
    assert torch.equal(merged("passthrough", [parent], scale=scale), parent * (1.0 if scale is None else scale))
