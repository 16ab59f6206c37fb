"""Caches that rows go on after, and the positions of tokens among padding."""

from __future__ import annotations

import numpy as np
import torch

from evomerge.backends.forward import Forward, positions
from tests.backends.asking import make


def test_tokens_count_on_over_padding():
    mask = torch.tensor([[1, 1, 0, 0, 1, 1], [0, 0, 1, 1, 1, 1]], dtype=torch.bool)
    assert positions(mask).tolist() == [[0, 1, 1, 1, 2, 3], [0, 0, 0, 1, 2, 3]]


def test_rows_are_aligned_to_the_right():
    ids, mask = Forward(make("llama")).rows([[1, 2, 3], [4]])
    assert ids.tolist() == [[1, 2, 3], [0, 0, 4]] and mask.tolist() == [[True] * 3, [False, False, True]]


def test_rows_that_go_on_after_a_cache_leave_it_as_it_is():
    forward = Forward(make("llama"))
    with torch.inference_mode():
        past = forward.start(np.arange(5, dtype=np.int32))
        before = [layer.keys.clone() for layer in past.cache.layers]
        for grown in (past.repeated(3), past.selected([0, 0, 0])):
            ids, mask = forward.rows([[7, 8], [9], [1]])
            forward(ids, torch.cat([grown.mask, mask], 1), grown, keep=1)
            assert {layer.keys.shape[0] for layer in grown.cache.layers} == {3} and grown.cache.get_seq_length() == 7
    assert all(torch.equal(layer.keys, own) for layer, own in zip(past.cache.layers, before, strict=True))


def test_repeating_a_cache_copies_nothing():
    forward = Forward(make("llama"))
    with torch.inference_mode():
        past = forward.start(np.arange(5, dtype=np.int32))
        many = past.repeated(1000)
    assert all(
        a.keys.data_ptr() == b.keys.data_ptr() for a, b in zip(past.cache.layers, many.cache.layers, strict=True)
    )


def test_logits_are_those_of_the_last_columns():
    model = make("softcap")
    ids = torch.arange(12).reshape(2, 6)
    with torch.inference_mode():
        found = Forward(model)(ids, torch.ones(2, 6, dtype=torch.bool), None, keep=2)
        torch.testing.assert_close(found, model(ids).logits[:, -2:])
