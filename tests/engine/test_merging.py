"""A whole tensor: dtypes may be mixed, the result is rounded once, and what is not finite is refused."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from typing import Any

import pytest
import torch

from evomerge.errors import MergeError
from evomerge.methods import METHODS
from evomerge.methods.entries import Entries
from evomerge.methods.sce import Table
from evomerge.types import Blend
from tests.engine.held import BASE, CPU, NAME, Held, digests, held, merging, written

F32, BF16, F16 = torch.float32, torch.bfloat16, torch.float16
SUM = Blend("task_arithmetic", {"weight": (0.5, -0.25, 1.5)})
SHAPE = (3, 50_000)


def mixed() -> Held:
    random = torch.Generator().manual_seed(0)
    base, *parents = (torch.randn(SHAPE, generator=random) for _ in range(4))
    return Held(
        {
            BASE: base.bfloat16(),
            **dict(zip(digests(3), (parents[0], parents[1].half(), parents[2].bfloat16()), strict=True)),
        }
    )


def test_parents_of_mixed_dtypes_are_merged_in_float32():
    family = mixed()
    base, *parents = (tensor.float() for tensor in family.tensors.values())
    total = (parents[0] - base) * 0.5 + (parents[1] - base) * -0.25 + (parents[2] - base) * 1.5
    assert torch.equal(written(family, SUM), base + total)


@pytest.mark.parametrize("dtype", [BF16, F16])
def test_the_result_is_rounded_once_to_the_targets_dtype(dtype):
    family = mixed()
    assert torch.equal(written(family, SUM, dtype), written(family, SUM).to(dtype))


def test_a_target_that_is_not_contiguous_is_written_in_place():
    family = mixed()
    target = torch.empty(SHAPE[1], SHAPE[0]).t()
    merging(family, SUM).write(family, target)
    assert torch.equal(target, written(family, SUM))


def test_parents_that_are_the_base_leave_its_bits():
    base = torch.randn(SHAPE, generator=torch.Generator().manual_seed(1)).half()
    family = Held({BASE: base, "parent 0": base + 1})
    merged = replace(merging(family, Blend("task_arithmetic")), pairs=((BASE, NAME),))
    target = torch.empty(SHAPE)
    merged.write(family, target)
    assert torch.equal(target, base.float())
    ((box, part),) = merged.boxes(family, (slice(1, 2), slice(3, 9)), CPU)
    assert box == (slice(1, 2), slice(3, 9)) and torch.equal(part, base[1:2, 3:9].float())


# ---------------------------------------------------------------- what is not finite


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("place", [0, 100_000, 149_999])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_entries_that_are_not_finite_are_refused_wherever_they_are(bad, place, again):
    family = held([torch.ones(SHAPE), torch.ones(SHAPE)])
    family.tensors["parent 1"].view(-1)[place] = bad
    for _ in range(2):
        with pytest.raises(MergeError, match=rf"NaN or infinite entries in '{NAME}'"):
            merging(family, Blend("task_arithmetic", {"weight": 0.5})).write(family, torch.empty(SHAPE), again=again)


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("weight, dtype", [(1e39, F32), (3e38, F32), (70_000.0, F16), (3.4e38, BF16)])
def test_a_result_that_its_dtype_cannot_hold_is_refused(weight, dtype, again):
    family = held([torch.full((4, 4), 1.0), torch.full((4, 4), 1.1)])
    merged = merging(family, Blend("task_arithmetic", {"weight": weight}))
    with pytest.raises(MergeError, match="NaN or infinite"):
        merged.write(family, torch.empty(4, 4, dtype=dtype), again=again)


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("method", ["ties", "dare_linear", "della", "breadcrumbs", "ram"])
def test_a_sum_that_overflows_before_it_is_made_small_again_is_refused(method, again):
    family = held([torch.full((4,), 1.5e38)] * 3)
    scaled = {} if method == "ram" else {"scale": 1e-3}
    with pytest.raises(MergeError, match="NaN or infinite"):
        merging(family, Blend(method, scaled)).write(family, torch.empty(4), again=again)


@pytest.mark.parametrize("again", [False, True])
def test_a_weight_that_float32_cannot_hold_is_refused_though_the_result_would_be_small(again):
    family = held([torch.full((4,), 1e-9)])
    merged = merging(family, Blend("task_arithmetic", {"weight": 1e39}))
    with pytest.raises(MergeError, match="NaN or infinite"):
        merged.write(family, torch.empty(4), again=again)


@pytest.mark.parametrize("again", [False, True])
def test_a_base_beside_the_limit_counts(again):
    family = held([torch.full((4,), 60_001.0)], torch.full((4,), 60_000.0))
    merged = merging(family, Blend("task_arithmetic", {"weight": 10_000.0}))
    with pytest.raises(MergeError, match="NaN or infinite"):
        merged.write(family, torch.empty(4, dtype=F16), again=again)


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0)])
@pytest.mark.parametrize("method", METHODS)
def test_a_tensor_without_entries_is_merged_to_itself(method, shape):
    arity = METHODS[method].arity
    family = held([torch.empty(shape)] * max(arity[0], min(2, arity[1] or 2)))
    merging(family, Blend(method)).write(family, torch.empty(shape), again=True)
    assert list(merging(family, Blend(method)).boxes(family, None, CPU)) == []


# ---------------------------------------------------------------- what is kept


@pytest.mark.parametrize("placement", ["device", "host"])
def test_what_sce_keeps_of_every_entry_is_kept_of_one_choice_of_parents(placement):
    family = held([torch.randn(30, 40) for _ in range(4)], placement=placement)
    names = digests(4)
    for pair in combinations(names, 2):
        written(family, Blend("sce", {"select_topk": 0.5}), parents=pair)
    places = {table.places.data_ptr() for table in found(family.learned, Table)}
    assert len(places) == 1


def found(learned: Any, kind: type) -> list[Any]:
    """All of a kind in what is kept, however deep."""
    if isinstance(learned, kind):
        return [learned]
    if isinstance(learned, Entries):
        return found(learned.joint, kind)
    inner = learned.values() if isinstance(learned, dict) else learned if isinstance(learned, tuple) else ()
    return [table for part in inner for table in found(part, kind)]


# ---------------------------------------------------------------- keys


def test_equal_merges_have_equal_keys_and_any_difference_another():
    family = held([torch.ones(4)] * 3)
    one = merging(family, SUM, seed=1)
    assert one.key == merging(family, Blend("task_arithmetic", dict(SUM.knobs)), seed=1).key
    others = [
        merging(family, SUM, seed=2),
        merging(family, Blend("dare_linear", SUM.knobs), seed=1),
        merging(family, Blend("task_arithmetic", {"weight": (0.5, -0.25, 1.4)}), seed=1),
        merging(family, Blend("task_arithmetic", {**SUM.knobs, "normalize": True}), seed=1),
        merging(family, SUM, seed=1, parents=["parent 0", "parent 2", "parent 1"]),
        replace(one, pairs=tuple((digest, "v") for digest, _ in one.pairs)),
        replace(one, base=("another", NAME)),
    ]
    keys = [one.key, *(other.key for other in others)]
    assert len(set(keys)) == len(keys)


def test_seeds_draw_other_masks_though_the_same_is_known_of_the_parents():
    family = held([torch.ones(40, 40)])
    blend = Blend("dare_linear", {"density": 0.5, "rescale": "l1"})
    one, two = (written(family, blend, seed=seed) for seed in (0, 1))
    assert not torch.equal(one, two)
    family.learned.clear()
    assert torch.equal(written(family, blend, seed=1), two)


def test_a_parent_is_masked_alike_whoever_stands_beside_it():
    random = torch.Generator().manual_seed(2)
    family = held([torch.randn(40, 40, generator=random) for _ in range(3)])
    blend = Blend("dare_linear", {"weight": (1.0, 0.0), "density": 0.5})
    beside = [written(family, blend, parents=["parent 1", other]) for other in ("parent 0", "parent 2")]
    assert torch.equal(*beside) and 0 < int((beside[0] == 0).sum()) < 1600
