"""What a forward pass holds beside the model: cache, activations, logits; bytes, by plain arithmetic.

lm-eval 0.4.13 (HFLM `_loglikelihood_tokens`) keeps logits of every position in the model's dtype, their log-softmax,
and still the log-softmax of the batch before: three times batch * tokens * vocabulary.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evomerge.memory.plan import Load, Shape

FLOAT32 = 4  # bytes


def evaluating(shape: Shape, load: Load, itemsize: int) -> int:
    """Peak of a forward pass beside the model: cache, activations, logits. Sliding windows are counted as full."""
    return max(_scoring(shape, load, itemsize), _generating(shape, load, itemsize))


def _scoring(shape: Shape, load: Load, itemsize: int) -> int:
    tokens = load.batch_size * load.scored
    logits = tokens * shape.vocabulary * itemsize
    cache = cache_of(shape, tokens, itemsize)
    return logits + max(cache + _activations(shape, tokens, itemsize), cache + logits, 2 * logits)


def _generating(shape: Shape, load: Load, itemsize: int) -> int:
    """Logits of the last position alone, which transformers turns to float32 beside."""
    tokens = load.batch_size * load.generated
    last = load.batch_size * shape.vocabulary * (itemsize + 2 * FLOAT32)
    return cache_of(shape, tokens, itemsize) + max(_activations(shape, tokens, itemsize), last)


def cache_of(shape: Shape, tokens: int, itemsize: int) -> int:
    """Keys and values of every layer; transformers keeps them in scoring, too."""
    return 2 * shape.layers * tokens * shape.kv_heads * shape.head_dim * itemsize


def _activations(shape: Shape, tokens: int, itemsize: int) -> int:
    """Inside an MLP: gate, up and their product, beside four hidden states (measured on llama)."""
    return tokens * (3 * shape.intermediate + 4 * shape.hidden) * itemsize
