"""Generated answers with shared prompts, and texts that are tokenised once."""

from __future__ import annotations

import pytest
import torch
from lm_eval.models.huggingface import HFLM

from evomerge.backends.lm import _padded_after
from tests.backends.asking import ask, examples, make, read, wrapped

GREEDY = {"until": ["\n"], "max_gen_toks": 12, "do_sample": False}


def prompts(shots: int, n: int = 7, **settings: object) -> list:
    return [
        ask("generate_until", f"{examples(shots)}Question: {'1 and ' * (k % 3)}{k}?\nAnswer:", GREEDY | settings)
        for k in range(n)
    ]


@pytest.mark.parametrize("kind", ["llama", "learned_positions", "softcap", "alibi"])
def test_shared_prompts_are_answered_as_in_lm_eval(kind: str):
    model = make(kind)
    theirs, ours = wrapped(model, batch_size=4, share_prefix=False), wrapped(model, batch_size=4)
    assert ours.answer(prompts(5)) == theirs.answer(prompts(5))
    answers = read(theirs, prompts(0))
    assert 3 * (read(ours, prompts(5)) - answers) < read(theirs, prompts(5)) - answers


def test_prompts_are_cut_as_in_lm_eval():
    model = make("llama")
    theirs, ours = (wrapped(model, batch_size=4, max_length=100, share_prefix=s) for s in (False, True))
    assert ours.answer(prompts(5)) == theirs.answer(prompts(5))


def test_beams_read_their_prompts_in_full():
    model = make("llama")
    theirs, ours = wrapped(model, batch_size=4, share_prefix=False), wrapped(model, batch_size=4)
    asked = prompts(5, num_beams=2)
    assert ours.answer(asked) == theirs.answer(asked) and read(ours, asked) == read(theirs, asked)


def test_changed_weights_leave_nothing_of_the_old_in_answers():
    theirs, ours = wrapped(make("llama"), share_prefix=False), wrapped(make("llama", seed=1))
    before = ours.answer(prompts(5))
    with torch.no_grad():
        for old, new in zip(ours.lm.model.parameters(), make("llama").parameters(), strict=True):
            old.copy_(new)
    assert ours.answer(prompts(5)) == theirs.answer(prompts(5)) != before


def test_padding_moves_behind_the_common_tokens():
    ids = torch.tensor([[0, 0, 7, 8, 1], [7, 8, 1, 2, 3]])
    mask = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]], dtype=torch.bool)
    found, own = _padded_after(ids, mask, 2)
    assert found.tolist() == [[7, 8, 0, 0, 1], [7, 8, 1, 2, 3]]
    assert own.tolist() == [[True, True, False, False, True], [True] * 5]


def test_texts_are_tokenised_once(monkeypatch: pytest.MonkeyPatch):
    backend = wrapped(make("llama"))
    asked = [*prompts(1), ask("loglikelihood_rolling", "one text"), ask("loglikelihood", "a", " b")]
    expected = backend.answer(asked)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("tokenised again")

    for name in ("tok_encode", "tok_batch_encode"):
        monkeypatch.setattr(HFLM, name, refuse)
    assert backend.answer(asked) == expected
    with pytest.raises(AssertionError, match="again"):
        backend.answer([ask("loglikelihood_rolling", "another text")])


def test_lm_evals_own_loop_remembers_no_pair():
    backend = wrapped(make("llama"), share_prefix=False)
    backend.answer([ask("loglikelihood", "a", " b")])
    assert backend.lm._texts is None
