"""Pieces and parts of one tensor: every entry is merged once, at its own place, with its own random words."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evomerge.engine.passes import Pass, positions
from evomerge.engine.pieces import Inputs
from evomerge.engine.sources import Stored
from evomerge.methods.dare import DARE_LINEAR
from evomerge.methods.entries import Entries
from evomerge.methods.kernels import Sum
from evomerge.methods.masks import WIDTH, below, entry_word, row_words, shared_word
from evomerge.methods.settled import Settled
from evomerge.types import Blend
from tests.engine.held import CPU, held, merging, written

quick = settings(deadline=None, max_examples=40, derandomize=True)
KEYS = (5, 6, 7)


def empty(n: int) -> torch.Tensor:
    return torch.full((n,), float("nan"))


@st.composite
def boxes(draw) -> tuple[tuple[int, ...], tuple[slice, ...]]:
    shape = tuple(draw(st.lists(st.integers(1, 12), max_size=3)))
    edges = [sorted(draw(st.tuples(st.integers(0, n), st.integers(0, n)))) for n in shape]
    return shape, tuple(slice(a, b) for a, b in edges)


@quick
@given(boxes())
def test_positions_count_the_entries_in_row_major_order(shape_and_box):
    shape, box = shape_and_box
    whole = torch.arange(math.prod(shape)).reshape(shape)
    assert torch.equal(positions(shape, box, CPU), whole[box])


# ---------------------------------------------------------------- tensors of more than 2**31 entries


@pytest.fixture(scope="module")
def large() -> Pass:
    """DARE over two parents of ones, 2**31 + 8192 entries each that take no memory; the first row has 1000 entries."""
    shape = (2**21 + 8, WIDTH)
    ones = torch.ones(()).expand(shape)
    entries = Entries(shape, lambda start, stop, which: [ones.reshape(-1)[start:stop] for _ in which], KEYS)
    settled = DARE_LINEAR.settle(entries, weight=(1.0, 2.0), density=0.5, rescale="none")
    return Pass(settled, Inputs([Stored(ones, CPU)] * 2, None, entries))


def kept(positions_of: torch.Tensor) -> torch.Tensor:
    """What DARE leaves at these positions: 1 of the first parent, 2 of the second."""
    n, total = int(positions_of.max()) + 1, torch.zeros(positions_of.shape)
    rows = [row_words(key, n, CPU)[positions_of // WIDTH] for key in KEYS]
    shared = shared_word((positions_of % WIDTH).to(torch.int32), rows[0])
    for k in (1, 2):
        total += k * (entry_word(shared, rows[k]) < below(0.5))
    return total


def test_entries_beyond_2_to_the_31_have_words_of_their_own_place(large):
    n = large.entries.n
    start = n - 3000  # neither first nor last at the end of a row
    out = empty(2990)
    large.flat(start, n - 10, out)
    assert torch.equal(out, kept(torch.arange(start, n - 10)))
    assert 0 < float(out.mean()) < 3


def test_a_box_beyond_2_to_the_31_is_that_of_its_place(large):
    rows = large.entries.shape[0]
    box = (slice(rows - 3, rows - 1), slice(7, 900))
    out = torch.empty(2, 893)
    large.box(box, out)
    assert torch.equal(out, kept(positions(large.entries.shape, box, CPU)))


# ---------------------------------------------------------------- coefficients by rows and columns


def by_vectors(shape: tuple[int, ...], width: int, *, rows: bool) -> tuple[Pass, torch.Tensor]:
    """A sum with a coefficient for each row (column) of the tensor seen as (n / width, width), and its result."""
    random = torch.Generator().manual_seed(0)
    values = torch.randn(2, *shape, generator=random)
    n = math.prod(shape)
    of = (n // width, 1) if rows else (1, width)
    extras = tuple(torch.randn(of, generator=random) for _ in range(2))
    settled = Settled(Sum(), ((0.0, 0.0),), extras=extras, width=width)
    merging = Pass(settled, Inputs([Stored(v, CPU) for v in values], None, Entries.of(values)))
    seen = values.reshape(2, n // width, width)
    return merging, (seen[0] * extras[0] + seen[1] * extras[1]).reshape(shape)


@pytest.mark.parametrize("rows", [True, False])
@pytest.mark.parametrize(
    "shape, width", [((6, 5), 5), ((2, 1), 1), ((7,), 7), ((7,), 1), ((1, 9), 9), ((3, 4, 5), 5), ((3, 4, 5), 20)]
)
def test_vectors_of_coefficients_meet_their_rows_and_columns_in_the_whole_and_in_any_box(shape, width, rows):
    merging, wanted = by_vectors(shape, width, rows=rows)
    out = empty(wanted.numel())
    merging.flat(0, wanted.numel(), out)
    assert torch.equal(out.view(shape), wanted)
    for dim, size in enumerate(shape):
        box = tuple(slice(size // 2, size) if d == dim else slice(0, n) for d, n in enumerate(shape))
        part = torch.empty(wanted[box].shape)
        merging.box(box, part)
        assert torch.equal(part, wanted[box])


@pytest.mark.parametrize("start, stop", [(0, 10), (10, 20), (5, 25), (0, 0)])
def test_rows_of_a_tensor_with_coefficients_by_columns_are_merged_alone(start, stop):
    merging, wanted = by_vectors((6, 5), 5, rows=False)
    out = empty(stop - start)
    merging.flat(start, stop, out)
    assert torch.equal(out, wanted.view(-1)[start:stop])


# ---------------------------------------------------------------- sums


@pytest.mark.parametrize("shape", [(1,), (5, 7), (3, WIDTH), (70, 1000)])
def test_totals_are_the_sums_over_all_entries(shape):
    values = torch.randn(2, *shape, generator=torch.Generator().manual_seed(1))
    numbers = ((2.0, 3.0),)
    merging = Pass(Settled(Moments(), numbers), Inputs([Stored(v, CPU) for v in values], None, Entries.of(values)))
    wanted = [2 * values[0].double().sum(), 3 * values[1].double().square().sum()]
    assert merging.totals(2) == pytest.approx([float(x) for x in wanted], rel=1e-5, abs=1e-4)
    assert Entries.of(values).totals(Moments(), numbers, 2) == pytest.approx(merging.totals(2), rel=1e-9)


class Moments:
    """A measure: the first parent's sum and the second's energy, each times its number."""

    random = False

    def __call__(self, values, numbers, column, words, extras):
        return [values[0] * numbers[0, 0], values[1] * values[1] * numbers[0, 1]]


@pytest.mark.parametrize("shape", [(200, 2000), (4, 2, 2, 3)])
def test_a_box_of_more_entries_than_a_block_or_of_many_dimensions_has_the_bits_of_the_whole(shape):
    base, *parents = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0)).bfloat16()
    family = held(torch.stack(parents).float(), base.float())
    blend = Blend("dare_linear", {"density": 0.5})
    box = (slice(0, shape[0]), slice(0, shape[1] // 2), *(slice(0, n) for n in shape[2:]))
    ((_, part),) = merging(family, blend).boxes(family, box, torch.device("cpu"))
    assert torch.equal(part, written(family, blend)[box])
