"""A parent's entries have the same bits in any part, whether they are stored or made of factors."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evomerge.engine import sources
from evomerge.engine.sources import Adapted, LowRank, Stored, reader
from tests.engine.held import CPU

quick = settings(deadline=None, max_examples=40, derandomize=True)


@st.composite
def low_ranks(draw) -> tuple[LowRank, torch.Tensor]:
    """Factors whose product is made in several groups of rows, and the product."""
    m, r, n = draw(st.integers(1, 40)), draw(st.integers(1, 5)), draw(st.sampled_from([1, 3, 64, 1024, 1500]))
    random = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    left, right = torch.randn(m, r, generator=random), torch.randn(r, n, generator=random)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "PIECE", draw(st.sampled_from([1, 4096])))
        return LowRank(left, right), left @ right


@st.composite
def ranges(draw, n: int) -> slice:
    start, stop = sorted(draw(st.tuples(st.integers(0, n), st.integers(0, n))))
    return slice(start, stop)


def bits(x: torch.Tensor) -> torch.Tensor:
    return x.contiguous().view(torch.int32)


@quick
@given(low_ranks(), st.data())
def test_any_part_of_a_product_has_the_bits_of_the_whole(made, data):
    source, product = made
    m, n = product.shape
    whole = source.flat(0, m * n)
    torch.testing.assert_close(whole.view(m, n), product)
    span = data.draw(ranges(m * n))
    assert torch.equal(bits(source.flat(span.start, span.stop)), bits(whole[span]))
    box = (data.draw(ranges(m)), data.draw(ranges(n)))
    assert torch.equal(bits(source.box(box)), bits(whole.view(m, n)[box]))


@quick
@given(low_ranks(), st.data())
def test_any_part_of_an_adapted_tensor_has_the_bits_of_the_whole(made, data):
    change, product = made
    m, n = product.shape
    base = torch.randn(m, n, generator=torch.Generator().manual_seed(m)).bfloat16()
    source = Adapted(Stored(base, CPU), change)
    whole = source.flat(0, m * n)
    torch.testing.assert_close(whole.view(m, n), base.float() + product)
    span = data.draw(ranges(m * n))
    assert torch.equal(bits(source.flat(span.start, span.stop)), bits(whole[span]))
    box = (data.draw(ranges(m)), data.draw(ranges(n)))
    assert torch.equal(bits(source.box(box)), bits(whole.view(m, n)[box]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_what_is_stored_keeps_its_dtype_and_is_not_copied(dtype):
    tensor = torch.randn(6, 7).to(dtype)
    source = Stored(tensor, CPU)
    assert not source.is_delta and source.whole is not None
    assert torch.equal(source.flat(5, 20), tensor.view(-1)[5:20])
    assert torch.equal(source.box((slice(1, 3), slice(2, 6))), tensor[1:3, 2:6])
    assert source.flat(5, 20).data_ptr() == tensor.view(-1)[5:].data_ptr()


def test_the_base_is_taken_from_what_is_stored_and_not_from_differences():
    base, parent = torch.randn(4, 6).bfloat16(), torch.randn(4, 6).half()
    left, right = torch.randn(4, 2), torch.randn(2, 6)
    delta = torch.randn(4, 6)
    given_as = [Stored(parent, CPU), LowRank(left, right), Stored(delta, CPU, is_delta=True)]
    read = reader(given_as, Stored(base, CPU))
    stored, made, as_it_is = read(3, 15, (0, 1, 2))
    assert all(value.dtype == torch.float32 for value in (stored, made, as_it_is))
    assert torch.equal(stored, (parent.float() - base.float()).view(-1)[3:15])
    torch.testing.assert_close(made, (left @ right).view(-1)[3:15])
    assert torch.equal(as_it_is, delta.view(-1)[3:15])
    (alone,) = read(3, 15, (2,))
    assert torch.equal(alone, as_it_is)


def test_without_a_base_the_parents_are_read_as_they_are():
    parent = torch.randn(4, 6).bfloat16()
    (value,) = reader([Stored(parent, CPU)], None)(0, 24, (0,))
    assert torch.equal(value, parent.float().view(-1))
