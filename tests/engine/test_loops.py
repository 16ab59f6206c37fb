"""Compiled kernels have the bits of the eager ones, are compiled once, and are done without if there is no compiler."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import pytest
import torch
from torch._dynamo.utils import counters
from torch._inductor import config as inductor

from evomerge.engine import fused, loops
from evomerge.methods.kernels import Sum
from evomerge.types import Blend
from tests.engine.held import BASE, Held, digests, written

F32, BF16, F16 = torch.float32, torch.bfloat16, torch.float16
KERNELS = {
    "sum": Blend("task_arithmetic", {"weight": (0.3, -0.7), "scale": 0.9}),
    "sum by rows": Blend("nuslerp", {"weight": (0.3, 0.7), "nuslerp_flatten": False}),
    "random election": Blend("dare_ties", {"weight": (0.3, 0.7), "density": 0.4, "normalize": True}),
    "largest, some of equals": Blend("ties", {"weight": (0.3, 0.7), "density": (0.21, 0.5)}),
    "by ranks": Blend("della", {"weight": (0.3, 0.7), "density": 0.4}),
}


@pytest.fixture
def outcomes(monkeypatch) -> list[bool]:
    """Whether compiled code did the work, call by call."""
    found: list[bool] = []
    real, real_bound = loops.compiled, loops.bound

    def spy(*args) -> None:
        found.append(False)
        real(*args)
        found[-1] = True

    def bound(*args) -> Callable[[], None] | None:
        call = real_bound(*args)
        found.extend([True] * (call is not None))
        return call

    monkeypatch.setattr(loops, "compiled", spy)
    monkeypatch.setattr(loops, "bound", bound)
    return found


def family(shape: tuple[int, ...], dtypes: tuple[torch.dtype, ...], *, compiles: bool) -> Held:
    """Base and parents of these dtypes, near each other: many differences are zero, or equal in magnitude."""
    random = torch.Generator().manual_seed(0)
    base = torch.randn(shape, generator=random)
    tensors = [base + 0.02 * torch.randn(shape, generator=random) for _ in dtypes[1:]]
    return Held(
        {BASE: base.to(dtypes[0]), **{d: t.to(k) for d, t, k in zip(digests(9), tensors, dtypes[1:], strict=False)}},
        compiles=compiles,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind, dtypes, out",
    [
        ("sum", (BF16, BF16, BF16), BF16),
        ("sum by rows", (BF16, F32, BF16), F32),
        ("random election", (BF16, F32, BF16), F32),
        ("largest, some of equals", (BF16, BF16, BF16), BF16),
        ("by ranks", (F32, F32, F32), F16),
    ],
)
def test_compiled_and_eager_have_the_same_bits(kind, dtypes, out, outcomes):
    integers = torch.int32 if out == F32 else torch.int16
    for rows in (37, 61, 30):  # nine rows of the loop and a rest; the second tensor meets code that is there
        eager, compiled = (written(family((rows, 257), dtypes, compiles=c), KERNELS[kind], out) for c in (False, True))
        assert outcomes and all(outcomes)
        assert torch.equal(eager.view(integers), compiled.view(integers))


@pytest.mark.slow
def test_twenty_candidates_over_tensors_of_many_sizes_are_compiled_once_and_so_are_rests_of_rows(outcomes):
    loops._loop.cache_clear()
    kinds = (BF16, BF16, BF16)
    families = [family((rows, 512), kinds, compiles=True) for rows in (4, 5, 6, 100, 1000)]
    random = torch.Generator().manual_seed(1)
    before = dict(counters["stats"])
    for _ in range(20):
        weights = tuple(torch.rand(2, generator=random).tolist())
        density = tuple(torch.rand(2, generator=random).tolist())
        for held in families:
            written(held, Blend("dare_linear", {"weight": weights, "density": density}), BF16)
    assert all(outcomes) and len(outcomes) >= 100 + 20
    assert counters["stats"]["unique_graphs"] - before.get("unique_graphs", 0) == 2


@pytest.mark.slow
def test_a_tensor_that_is_given_twice_is_not_taken_for_two(outcomes):
    """Compiled code was made for one tensor in both places: it must not be called with two."""
    loops._loop.cache_clear()
    one, other = torch.ones(3, 2048, 1, dtype=BF16), torch.full((2048, 1), 10.0, dtype=BF16)
    numbers, out = torch.tensor([[0.5, 0.25]]), torch.empty(2048, 1, dtype=BF16)
    for parents, wanted in (((one[0],) * 2, 0.75), ((one[0], other), 3.0), ((other, one[1]), 5.25)):
        it = fused.Operands(None, parents, numbers, None, None, ())
        loops.compiled(fused.merge, Sum(), (False, False), it, out)
        assert out.unique().tolist() == [wanted]


@pytest.mark.slow
def test_code_is_called_as_it_stands_once_it_is_there():
    loops._loop.cache_clear()
    entries, numbers, out = torch.arange(4096.0).view(-1, 1), torch.tensor([[0.5]]), torch.empty(4096, 1)
    what = (fused.merge, Sum(), (False,), fused.Operands(None, [entries], numbers, None, None, ()), out)
    assert loops.bound(*what) is None
    loops.compiled(*what)
    call = loops.bound(*what)
    out.zero_()
    assert call is not None and not out.any()
    call()
    assert torch.equal(out, entries / 2)


def test_operands_of_more_than_2_to_the_31_entries_are_of_another_kind():
    """Guards of torch.compile would tell them from others where a loop counts in 32 bits."""

    def kinds(rows: int) -> tuple:
        entries = torch.ones(()).expand(rows, 1024)  # takes no memory
        return fused.Operands(None, [entries], torch.ones(1, 1), None, None, ()).kinds()

    assert kinds(2) == kinds(2**21 - 1) != kinds(2**21)


def test_operands_with_other_rows_of_numbers_are_of_another_kind():
    entries = [torch.ones(2, 8)]
    few, many = (fused.Operands(None, entries, torch.ones(m, 1), None, None, ()).kinds() for m in (1, 2))
    assert few != many


# ---------------------------------------------------------------- without a compiler


@pytest.fixture
def fresh(monkeypatch) -> Iterator[None]:
    """Nothing is known of compilers or compiled, before and after."""
    monkeypatch.setattr(loops, "_failed", set())
    for cached in (loops._equipped, loops._loop):
        cached.cache_clear()
    yield
    for cached in (loops._equipped, loops._loop):
        cached.cache_clear()


def test_without_a_compiler_merging_is_eager(fresh, outcomes):
    with inductor.patch({"cpp.cxx": ("/nowhere/c++",)}):
        eager, other = (written(family((30, 500), (F32, F32), compiles=c), Blend("linear")) for c in (False, True))
    assert outcomes == [] and torch.equal(eager, other)


def test_a_compiler_that_fails_is_told_once_and_done_without(monkeypatch, fresh, outcomes, caplog):
    def fails(*args, **settings):
        def call(*operands):
            raise RuntimeError("no such header\nand more")

        return call

    monkeypatch.setattr(torch, "compile", fails)
    blends = [Blend("linear"), Blend("linear", {"weight": 0.5}), Blend("dare_linear", {"density": 0.5})]
    with caplog.at_level(logging.WARNING):
        for blend in blends:
            eager, other = (written(family((30, 500), (F32, F32), compiles=c), blend) for c in (False, True))
            assert torch.equal(eager, other)
    assert outcomes == [False]
    assert [r.getMessage() for r in caplog.records] == [
        "compiling failed, merging goes on without (RuntimeError: no such header)"
    ]


def test_memory_that_runs_out_is_not_taken_for_a_missing_compiler(monkeypatch, fresh):
    def fails(*args, **settings):
        def call(*operands):
            raise torch.OutOfMemoryError("CUDA out of memory")

        return call

    monkeypatch.setattr(torch, "compile", fails)
    with pytest.raises(torch.OutOfMemoryError):
        written(family((30, 500), (F32, F32), compiles=True), Blend("linear"))
