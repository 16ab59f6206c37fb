"""Tokens of requests: lm-eval's own, made once, forgotten with the tokenizer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import processors
from transformers import PreTrainedTokenizerFast

from evomerge.backends.encoding import Memory, Pairs
from evomerge.backends.lm import RememberingLM
from tests.backends.asking import ask, make
from tests.models_pico import make_tokenizer


def with_bos() -> PreTrainedTokenizerFast:
    tokenizer = make_tokenizer()
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.bos_token_id)]
    )
    return tokenizer


@pytest.fixture(scope="module", params=[make_tokenizer, with_bos])
def lm(request: pytest.FixtureRequest) -> RememberingLM:
    return RememberingLM(pretrained=make("llama"), tokenizer=request.param())


def by_lm_eval(lm: RememberingLM, monkeypatch: pytest.MonkeyPatch, context: str, continuation: str) -> Any:
    seen: list[Any] = []
    with monkeypatch.context() as patch:
        patch.setattr(lm, "_loglikelihood_tokens", lambda requests, **_: seen.extend(requests))
        lm.loglikelihood([ask("loglikelihood", context, continuation)], disable_tqdm=True)
    return seen[0][1:]


texts = st.text(alphabet="ab <s>é\n", max_size=8)


@given(texts, texts.filter(bool))
def test_pairs_are_lm_evals_own(lm: RememberingLM, context: str, continuation: str):
    with pytest.MonkeyPatch.context() as patch:
        wanted = by_lm_eval(lm, patch, context, continuation)
    found = Pairs(lm)(context, continuation)
    assert (found.context.tolist(), found.continuation.tolist()) == wanted


def test_a_continuation_that_opens_a_text_is_its_own_context(lm: RememberingLM):
    found = Pairs(lm)("", "<s>ab")
    assert found.context.tolist() == [lm.prefix_token_id] and len(found.continuation) == 2


def test_a_pair_is_tokenised_once_until_the_tokenizer_changes(lm: RememberingLM, monkeypatch: pytest.MonkeyPatch):
    pairs, calls = Pairs(lm), []
    encode = lm._encode_pair
    monkeypatch.setattr(lm, "_encode_pair", lambda *strings: calls.append(strings) or encode(*strings))
    for _ in range(3):
        pairs("one", " two")
        pairs("one", " three")
    assert calls == [("one", " two"), ("one", " three")]
    assert pairs("one", " two").context is pairs("one", " three").context
    monkeypatch.setattr(lm, "tokenizer", make_tokenizer())
    pairs("one", " two")
    assert len(calls) == 3


def test_a_full_memory_forgets_and_goes_on():
    memory, made = Memory(limit=10), []

    def recall(key: str) -> np.ndarray:
        return memory.recall(key, lambda: made.append(key) or np.zeros(4), len)

    for key in "ababcab":
        recall(key)
    assert made == ["a", "b", "c", "a", "b"]
