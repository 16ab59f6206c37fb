"""Models whose computation cannot be shared are found out before the first answer, and lm-eval's loop is used."""

from __future__ import annotations

import pytest
import torch

from evomerge.backends import trial
from tests.backends.asking import choices, make, wrapped

REFUSED = {
    "convolution": "its layers of conv keep no plain cache",
    "encoder_decoder": "it is no decoder",
    "narrow_window": "its layers see 8 tokens only",
    "alibi_by_column": "differ from lm-eval's by",
}


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_model_that_is_not_fit_is_told_of_and_answers_as_in_lm_eval(kind: str, dtype: torch.dtype):
    model = make(kind, dtype)
    ours, theirs = wrapped(model, batch_size=3), wrapped(model, batch_size=3, share_prefix=False)
    (note,) = ours.notes
    assert REFUSED[kind] in note and note.endswith("lm-eval's own loop is used")
    assert ours.answer(choices(1, items=2)) == theirs.answer(choices(1, items=2))
    assert theirs.notes == () and ours.tokens_forwarded == theirs.tokens_forwarded


@pytest.mark.parametrize("break_", ["position_ids", "attention_mask"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_model_that_heeds_no_positions_or_masks_is_refused(break_: str, dtype: torch.dtype):
    model = make("llama", dtype)
    inner = model.model.forward
    model.model.forward = lambda *args, **settings: inner(*args, **(settings | {break_: None}))
    (note,) = wrapped(model).notes
    assert "shared log-likelihoods differ" in note


def test_a_model_that_fails_on_a_cache_is_refused():
    model = make("llama")
    own = model.forward

    def forward(input_ids: torch.Tensor, past_key_values: object = None):
        if past_key_values is not None:
            raise ValueError("what is this?")
        return own(input_ids)

    model.forward = forward
    assert "does not take a cache as others do (ValueError: what is this?)" in wrapped(model).notes[0]


def test_a_model_that_takes_no_cache_is_refused():
    model = make("llama")
    own = model.forward
    model.forward = lambda input_ids: own(input_ids)
    assert wrapped(model).notes


def test_a_full_device_is_no_reason_to_refuse(monkeypatch: pytest.MonkeyPatch):
    lm = wrapped(make("llama")).lm

    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("full")

    monkeypatch.setattr(lm.model.model, "forward", full)
    with pytest.raises(torch.OutOfMemoryError):
        trial.refusal(lm)


def test_the_trial_draws_from_no_global_generator():
    model, state = make("llama"), torch.get_rng_state()
    wrapped(model)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_trial_is_silent_where_the_model_reads_little(caplog: pytest.LogCaptureFixture):
    assert wrapped(make("llama"), max_length=8).notes == () and not caplog.records


def test_the_window_is_the_narrowest():
    assert trial.window(make("wide_window").config) == 150
    assert trial.window(make("llama").config) is None
