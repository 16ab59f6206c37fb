"""SCE against its formulas in float64."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evomerge.errors import ConfigError, MergeError
from evomerge.methods.sce import variance
from evomerge.types import Blend
from tests.engine.held import held, merged, written

quick = settings(deadline=None, max_examples=40, derandomize=True)
shapes = st.lists(st.integers(1, 33), max_size=3).map(tuple)
shares = st.sampled_from([0.0, 0.5, 1.0]) | st.floats(0.05, 1.0)


def normal(shape: tuple[int, ...], n: int, size: float = 1.0) -> list[torch.Tensor]:
    return [size * torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in range(n)]


def reference(
    deltas: list[torch.Tensor], select_topk: float = 1.0, select: str = "deltas", guard: str = "zero"
) -> torch.Tensor:
    """float64 (*shape), as mergekit has it with guard "absolute", if no two entries have the same variance."""
    stack = torch.stack(deltas).double()  # (P, *shape)
    chosen = stack
    if select_topk < 1:
        spread = stack.var(dim=0, unbiased=False)
        keep = int(select_topk * int(spread.count_nonzero()))
        mask = torch.zeros(spread.numel(), dtype=torch.float64)
        mask[spread.view(-1).topk(keep).indices] = 1
        chosen = stack * mask.view(spread.shape)
    weights = chosen.square().reshape(len(deltas), -1).mean(dim=1)
    equal = weights.sum() < 1e-6 if guard == "absolute" else weights.sum() == 0
    weights = torch.ones_like(weights) / len(deltas) if equal else weights / weights.sum()
    stack = chosen if select == "deltas" else stack
    agree = stack.sign() == torch.where(stack.sum(0) >= 0, 1.0, -1.0)
    erased = weights.view(-1, *[1] * (stack.dim() - 1)) * agree
    divisor = erased.sum(0)
    divisor = divisor.clamp(min=1e-6) if guard == "absolute" else torch.where(divisor == 0, 1.0, divisor)
    return (stack * erased).sum(0) / divisor


def clear(deltas: list[torch.Tensor]) -> torch.Tensor:
    """bool: where rounding does not turn the vote."""
    return torch.stack(deltas).sum(0).abs() > 1e-5 * deltas[0].abs().max()


# ---------------------------------------------------------------- formulas


@quick
@given(shapes, st.integers(2, 5), shares, st.sampled_from(["deltas", "weights"]), st.sampled_from([1.0, 1e-4]))
def test_selects_weighs_and_erases_as_its_formulas_say(shape, n, select_topk, select, size):
    deltas = normal(shape, n, size)
    for guard in ("zero", "absolute"):
        knobs = {"select_topk": select_topk, "select": select, "guard": guard}
        found, wanted = merged("sce", deltas, scale=1.3, **knobs).double(), 1.3 * reference(deltas, **knobs)
        torch.testing.assert_close(found[clear(deltas)], wanted[clear(deltas)], rtol=1e-4, atol=1e-6 * size)


@pytest.mark.parametrize("select_topk", [0.05, 0.31, 0.999])
def test_many_blocks_are_selected_from_as_one_tensor(select_topk):
    deltas = normal((500, 333), 3)
    found, sure = merged("sce", deltas, select_topk=select_topk), clear(deltas)
    wanted = reference(deltas, select_topk)
    assert int((found != 0).sum()) == int(select_topk * found.numel())
    torch.testing.assert_close(found.double()[sure], wanted[sure], rtol=1e-4, atol=1e-6)


@quick
@given(st.integers(0, 2**32), st.integers(1, 3000), st.floats(0.05, 0.999))
def test_just_so_many_are_selected_where_many_variances_are_equal(seed, n, select_topk):
    random = torch.Generator().manual_seed(seed)
    deltas = [torch.randint(1, 4, (n,), generator=random) / 8 for _ in range(3)]
    spread = torch.stack(deltas).double().var(dim=0, unbiased=False)
    kept = merged("sce", deltas, select_topk=select_topk) != 0  # all of one sign: what is selected is not 0
    assert int(kept.sum()) == int(select_topk * int(spread.count_nonzero()))
    if kept.any() and not kept.all():
        assert float(spread[kept].min()) >= float(spread[~kept].max()) - 1e-9


def test_what_equal_entries_leave_is_spread_over_the_tensor():
    kept = merged("sce", [torch.full((64, 1024), value) for value in (1.0, 2.0)], select_topk=0.25) != 0
    quarters = kept.view(4, -1).sum(dim=1)
    assert int(kept.sum()) == 2**14 and float((quarters - 2**12).abs().max()) < 4 * (2**14 * 0.25 * 0.75) ** 0.5


@pytest.mark.parametrize("select_topk", [0.0, 0.3])
def test_identical_parents_differ_nowhere_and_leave_the_base(select_topk):
    delta, base = normal((7, 30), 1)[0], torch.randn(7, 30)
    assert torch.equal(merged("sce", [base + delta] * 3, base, select_topk=select_topk), base)


@quick
@given(shapes, st.integers(2, 6), st.sampled_from([1.0, 1e-4]))
def test_the_variance_is_that_of_the_parents_times_their_number(shape, n, size):
    deltas = normal(shape, n, size)
    wanted = n * torch.stack(deltas).double().var(dim=0, unbiased=False)
    torch.testing.assert_close(variance(deltas).double(), wanted, rtol=1e-5 * n, atol=0)


@quick
@given(shapes, st.permutations(range(4)), shares)
def test_the_order_of_parents_does_not_matter(shape, order, select_topk):
    deltas = [(d * 64).round() / 64 for d in normal(shape, 4)]  # sums and, with four parents, variances are exact
    once = merged("sce", deltas, select_topk=select_topk)
    torch.testing.assert_close(merged("sce", [deltas[i] for i in order], select_topk=select_topk), once)


# ---------------------------------------------------------------- guards and bad input


def test_the_guard_of_mergekit_makes_weights_of_small_differences_equal():
    deltas = [1e-4 * d for d in (torch.tensor([1.0, 1.0]), torch.tensor([3.0, 1.0]))]
    equal, weighed = (merged("sce", deltas, guard=guard) for guard in ("absolute", "zero"))
    torch.testing.assert_close(equal, torch.tensor([2e-4, 1e-4]))
    torch.testing.assert_close(weighed, torch.tensor([1e-4 * (2 * 1 + 10 * 3) / 12, 1e-4]))


def test_the_guard_of_mergekit_damps_a_parent_of_next_to_no_weight():
    deltas = [torch.tensor([1e-4, 1e-4]), torch.tensor([1.0, 0.0])]  # at the second place the first parent is alone
    damped, alone = (float(merged("sce", deltas, guard=guard)[1]) for guard in ("absolute", "zero"))
    assert damped == pytest.approx(1e-4 * 2e-8 / 1e-6, rel=1e-4) and alone == pytest.approx(1e-4)


def test_the_compiled_loop_has_the_bits_of_the_eager_one():
    deltas = [(d * 4).round() / 8 for d in normal((90, 1000), 3)]
    eager, compiled = (written(held(deltas, compiles=c), Blend("sce", {"select_topk": 0.4})) for c in (False, True))
    assert torch.equal(eager.view(torch.int32), compiled.view(torch.int32))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -3e38])
def test_differences_that_have_no_variance_are_refused(bad):
    with pytest.raises(MergeError, match="finite ones are wanted"):
        merged("sce", [torch.tensor([1.0, 3e38]), torch.tensor([2.0, bad])], select_topk=0.5)


@pytest.mark.parametrize("knob, value, known", [("select", "delta", "deltas"), ("guard", "absolut", "absolute")])
def test_an_unknown_choice_is_refused(knob, value, known):
    with pytest.raises(ConfigError, match=rf"unknown {knob} '{value}'\. Did you mean '{known}'"):
        merged("sce", [torch.ones(2)] * 2, **{knob: value})
