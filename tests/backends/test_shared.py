"""Shared forward passes answer as lm-eval's own loop does, with far fewer tokens, and never with old weights."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch

from evomerge.backends.hf import HFBackend
from tests.backends.asking import ODD, ask, choices, distance, make, read, wrapped

SHARING = ["llama", "untied", "learned_positions", "softcap", "scaled_logits", "alibi", "experts", "wide_window"]


def both(kind: str, dtype: torch.dtype = torch.float32, **settings: Any) -> tuple[HFBackend, HFBackend]:
    """lm-eval's own loop, and ours, over one model."""
    model = make(kind, dtype)
    ours = wrapped(model, **settings)
    assert ours.lm.shared is not None and ours.notes == ()
    return wrapped(model, share_prefix=False, **settings), ours


def best(answers: list[tuple[float, bool]]) -> list[int]:
    """Places of the likeliest of the seven choices of each item."""
    return np.array([loglik for loglik, _ in answers]).reshape(-1, 7).argmax(1).tolist()


def greedy(model: Any, context: str) -> str:
    """What the model says next, three tokens long: a continuation that is greedy."""
    settings = {"until": [], "max_gen_toks": 3, "do_sample": False}
    return str(wrapped(model, share_prefix=False).answer([ask("generate_until", context, settings)])[0])


@pytest.mark.parametrize("kind", SHARING)
@pytest.mark.parametrize("shots", [0, 5])
def test_answers_are_lm_evals_own(kind: str, shots: int):
    theirs, ours = both(kind, batch_size=5)
    asked = choices(shots)
    expected, found = theirs.answer(asked + ODD), ours.answer(asked + ODD)
    assert distance(found, expected) < 1e-4
    assert [g for _, g in found] == [g for _, g in expected]
    assert best(found[: len(asked)]) == best(expected[: len(asked)])


@pytest.mark.parametrize("kind", ["llama", "learned_positions", "softcap"])
def test_in_bfloat16_answers_differ_no_more_than_lm_evals_do_by_batch(kind: str):
    theirs, ours = both(kind, torch.bfloat16, batch_size=16)
    asked = choices(5, items=12)
    batched, found = theirs.answer(asked), ours.answer(asked)
    theirs.batch_size = 1
    noise = distance(theirs.answer(asked), batched)
    sums = max(abs(loglik) for loglik, _ in batched)
    assert distance(found, batched) <= max(2 * noise, sums * 2**-7)  # sums are rounded to bfloat16, as lm-eval's are
    assert {loglik for loglik, _ in found} == {float(torch.tensor(ll).bfloat16()) for ll, _ in found}


@pytest.mark.parametrize("max_length", [5, 17, 60, 150])
def test_long_requests_are_cut_as_lm_eval_cuts_them(max_length: int):
    theirs, ours = both("llama", batch_size=4, max_length=max_length)
    asked = [r for r in choices(5) + ODD if len(r.args[1]) <= max_length]
    assert distance(ours.answer(asked), theirs.answer(asked)) < 1e-4


def test_what_lm_eval_refuses_is_refused():
    theirs, ours = both("llama", max_length=8)
    for backend in (theirs, ours):
        with pytest.raises(AssertionError):
            backend.answer([ask("loglikelihood", "context", " more than eight tokens")])


def test_greedy_continuations_are_found_in_all_kinds_of_passes():
    theirs, ours = both("llama")
    model = ours.lm.model
    contexts = [f"{'a long beginning that all share ' * 3}{k}" for k in range(6)]
    said = [greedy(model, c) for c in contexts]
    asked = [ask("loglikelihood", c, s[:n]) for c, s in zip(contexts, said, strict=True) for n in (1, 2, 3)]
    asked += [ask("loglikelihood", c, s[:1] + "?!") for c, s in zip(contexts, said, strict=True)]
    found = [g for _, g in ours.answer(asked)]
    assert found == [g for _, g in theirs.answer(asked)] and True in found[:18] and not any(found[18:])


def test_five_shots_take_a_third_of_the_tokens_or_less():
    theirs, ours = both("llama", batch_size=16)
    for asked in (choices(5, items=12), choices(5, items=12, own_shots=True)):
        assert 3 * read(ours, asked) <= read(theirs, asked)


def test_a_plan_counts_what_the_model_reads():
    _, ours = both("llama", batch_size=5)
    pairs = [ours._pairs(*r.args) for r in choices(5)]
    passes = ours.lm.shared.plan(pairs, max_length=1024, batch_size=5)
    assert read(ours, choices(5)) == passes.tokens
    assert ours.lm.shared.plan(list(pairs), max_length=1024, batch_size=5) is passes


def test_a_prefix_is_read_once_for_one_set_of_weights():
    _, ours = both("llama")
    first, second = read(ours, choices(5, items=6)), read(ours, choices(5, items=6))
    prefix = first - second
    assert prefix > 100
    with torch.no_grad():
        ours.lm.model.lm_head.weight.mul_(1)  # as good as new weights
    assert read(ours, choices(5, items=6)) == first


def test_a_kept_prefix_gives_the_bits_of_a_new_one():
    _, ours = both("llama", torch.bfloat16)
    new = ours.answer(choices(5))
    assert ours.answer(choices(5)) == new == ours.answer(choices(5))
    ours.lm.shared.prefixes.forget()
    assert ours.answer(choices(5)) == new


def test_changed_weights_leave_nothing_of_the_old():
    theirs, ours = both("llama")
    asked = choices(5)
    before = ours.answer(asked)
    with torch.no_grad():
        for old, new in zip(ours.lm.model.parameters(), make("llama", seed=1).parameters(), strict=True):
            old.copy_(new)
    after = ours.answer(asked)
    assert distance(after, theirs.answer(asked)) < 1e-4 < distance(after, before)


def test_the_order_of_requests_changes_no_bit():
    _, ours = both("llama", torch.bfloat16, batch_size=5)
    asked = choices(5) + ODD
    order = random.Random(0).sample(range(len(asked)), len(asked))
    straight = ours.answer(asked)
    assert ours.answer([asked[i] for i in order]) == [straight[i] for i in order]
    assert ours.answer(asked) == straight


def test_answers_do_not_depend_on_the_batch_or_on_other_requests():
    _, ours = both("llama", batch_size=16)
    asked = choices(5)
    together = ours.answer(asked)
    ours.batch_size = 1
    assert distance(ours.answer(asked), together) < 1e-4
    assert distance([ours.answer([r])[0] for r in asked[:9]], together[:9]) < 1e-4


def test_more_choices_than_rows_are_answered():
    theirs, ours = both("llama", batch_size=3)
    asked = [ask("loglikelihood", "a context that is long enough to pay " * 5, f" {k} of many") for k in range(10, 30)]
    assert distance(ours.answer(asked), theirs.answer(asked)) < 1e-4
    assert 2 * read(ours, asked) < read(theirs, asked)


def test_beyond_a_window_lm_evals_loop_answers():
    theirs, ours = both("wide_window")
    asked = choices(5)  # more than 150 columns
    assert ours.answer(asked) == theirs.answer(asked) and read(ours, asked) == read(theirs, asked)
    assert read(ours, choices(0)) < read(theirs, choices(0))


def test_a_full_device_is_told_and_the_next_answer_is_right(monkeypatch: pytest.MonkeyPatch):
    _, ours = both("llama")
    asked = choices(5)
    expected = ours.answer(asked)

    def full(*_: Any) -> None:
        raise torch.OutOfMemoryError("full")

    with monkeypatch.context() as patch:
        patch.setattr(ours.lm.model.lm_head, "forward", full)
        with pytest.raises(torch.OutOfMemoryError):
            ours.answer(asked)
    assert ours.answer(asked) == expected
