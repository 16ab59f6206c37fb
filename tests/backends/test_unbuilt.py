"""Unbuilt tensors: any chain of narrowing gives the whole's entries, and no more than these are built."""

from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from evomerge import build
from evomerge.backends.unbuilt import Plan, Site, Unbuilt
from evomerge.engine import merging
from evomerge.errors import MergeError
from evomerge.models.family import Family, open_family
from evomerge.types import Blend, Recipe, Slot
from tests.models_pico import make_pico

WHOLE = torch.arange(60.0).reshape(6, 10)
RECIPES = {
    "linear": Blend("linear", {"weight": (0.3, 0.9)}),
    "ties": Blend("ties", {"weight": (0.7, 0.6), "density": 0.4}),
    "dare_ties": Blend("dare_ties", {"weight": (0.7, 0.6), "density": 0.5}),
    "nuslerp": Blend("nuslerp", {"weight": (0.7, 0.6), "nuslerp_flatten": False}),
}


def entire(shape: tuple[int, ...]) -> tuple[slice, ...]:
    return tuple(slice(0, n) for n in shape)


def known(site: Site, whole: torch.Tensor = WHOLE) -> Unbuilt:
    """Row by row, as a fill may come."""

    def fill(box, device):
        for row in range(box[0].start, box[0].stop):
            part = (slice(row, row + 1), *box[1:])
            yield part, whole[part].to(device)

    return Unbuilt(Plan("w", fill, site), entire(tuple(whole.shape)))


@st.composite
def narrowings(draw) -> list[tuple[int, int, int]]:
    """Up to three (dim, start, length) that fit one after the other."""
    shape, found = list(WHOLE.shape), []
    for _ in range(draw(st.integers(0, 3))):
        dim = draw(st.integers(0, 1))
        start = draw(st.integers(0, shape[dim]))
        length = draw(st.integers(0, shape[dim] - start))
        found.append((dim, start, length))
        shape[dim] = length
    return found


@given(narrowings())
def test_what_is_narrowed_and_copied_is_that_part_of_the_whole_and_no_more_is_built(cuts):
    site = Site()
    part, wanted = known(site), WHOLE
    for cut in cuts:
        part, wanted = part.narrow(*cut), wanted.narrow(*cut)
    assert part.shape == wanted.shape
    target = torch.full(wanted.shape, -1.0, dtype=torch.float64)
    assert target.copy_(part) is target
    assert torch.equal(target, wanted.double())
    assert site.built == wanted.numel()


def test_slices_views_and_data_stay_unbuilt():
    site = Site()
    part = known(site)[1:-1, 2:].detach().data.view(4, 8)
    assert isinstance(part, Unbuilt) and part.shape == (4, 8) and part.dtype == torch.float32
    torch.empty(4, 8, device="meta").copy_(part)
    assert site.built == 0


@pytest.mark.parametrize(
    "use", [lambda t: t.t().contiguous(), lambda t: t[::2], lambda t: t[3], lambda t: t.to(torch.bfloat16)]
)
def test_anything_else_computes_with_the_built_part(use):
    site = Site()
    assert torch.equal(use(known(site)), use(WHOLE))
    assert site.built == WHOLE.numel()


def test_writing_to_what_is_not_there_is_refused():
    with pytest.raises(MergeError, match="changes a tensor in place"):
        known(Site()).mul_(2)


def test_a_fault_is_kept_and_the_other_targets_are_written():
    site = Site()
    bad = WHOLE.clone()
    bad[4, 4] = float("nan")
    target, other = torch.ones(6, 10), torch.ones(2, 10)
    target.copy_(known(site, bad))
    other.copy_(known(site, bad)[:2])
    assert [str(f) for f in site.faults] == ["the recipe gives NaN or infinite entries in 'w'"]
    assert not target.any() and torch.equal(other, WHOLE[:2])


def test_entries_that_overflow_the_targets_dtype_are_faults():
    site = Site()
    torch.empty(6, 10, dtype=torch.float16).copy_(known(site, WHOLE * 1e5))
    assert len(site.faults) == 1


@pytest.fixture(scope="module")
def family(base_folder: Path, expert_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Family:
    other = make_pico(tmp_path_factory.mktemp("pico") / "other", seed=3, base=base_folder)
    return open_family([str(expert_folder), str(other)], str(base_folder))


def recipe(family: Family, blend: Blend) -> Recipe:
    slots = tuple(Slot(((0, "model.layers", k), (1, "model.layers", k)), {"*": blend}) for k in range(2))
    return Recipe(family.pool().digests, family.pool().base, slots, {"*": blend}, seed=5)


@pytest.mark.parametrize("kind", RECIPES)
@pytest.mark.parametrize("rows", [3, 1 << 30])
def test_the_slices_of_two_ranks_are_bits_of_the_whole_merge(family, monkeypatch, kind, rows):
    merged = recipe(family, RECIPES[kind])
    planned, device = build.layers(merged), torch.device("cpu")
    for name, dim in (("model.layers.1.mlp.up_proj.weight", 0), ("model.layers.0.mlp.down_proj.weight", 1)):
        shape = family.shapes[name]
        whole = torch.empty(shape)
        build.write_tensor(merged, planned, family, name, whole)
        monkeypatch.setattr(merging, "SLICE", rows * shape[1])
        site = Site()
        unbuilt = Unbuilt(Plan(name, partial(build.merge_box, merged, planned, family, name), site), entire(shape))
        half = shape[dim] // 2
        for rank in range(2):
            mine = unbuilt.narrow(dim, rank * half, half)
            assert torch.equal(torch.empty(mine.shape).copy_(mine), whole.narrow(dim, rank * half, half))
        assert site.built == whole.numel() and not site.faults
        assert not torch.equal(whole, family.read(str(merged.base), name, device))
