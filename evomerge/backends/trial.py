"""Whether a model's computation can be shared: asked of its config, then of the model itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from evomerge.backends.encoding import Pair
from evomerge.backends.shared import Answer, Shared

#: Kinds of layers whose cache has a column for each token; those with a window keep to it as long as rows are shorter.
PLAIN = {"full_attention", "sliding_attention", "chunked_attention"}
WINDOWS = ("sliding_window", "attention_chunk_size", "window_size")  # in configs of transformers
ALWAYS, NEVER = 0, 10**9  # costs of a pass under which everything is shared, and nothing


def refusal(lm: Any) -> str | None:
    """Why forward passes of `lm`, an HFLM, cannot be shared; None if they can. Costs three small batches.

    On one set of random tokens the shared log-likelihoods must be lm-eval's own, up to rounding.
    """
    if lm.backend != "causal":
        return "it is no decoder"
    if odd := sorted({*_layers(lm.config)} - PLAIN):
        return f"its layers of {', '.join(odd)} keep no plain cache"
    try:
        return _difference(lm)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # whatever a model makes of arguments that it does not know
        return f"its forward pass does not take a cache as others do ({type(error).__name__}: {error})"


def window(config: Any) -> int | None:
    """Columns that every layer sees, None if no layer is bounded."""
    text = config.get_text_config(decoder=True)
    found = [getattr(text, name, None) for name in WINDOWS]
    return min((size for size in found if isinstance(size, int)), default=None)


def _layers(config: Any) -> Sequence[str]:
    text = config.get_text_config(decoder=True)
    return getattr(text, "layer_types", None) or ()


def _difference(lm: Any) -> str | None:
    pairs = _pairs(lm.model.get_input_embeddings().num_embeddings, lm.max_length)
    widest = max(len(p.context) + len(p.continuation) for p in pairs)
    if (seen := window(lm.config)) is not None and seen < 2 * widest:
        return f"its layers see {seen} tokens only"
    asked = [(("", ""), p.context.tolist(), p.continuation.tolist()) for p in pairs]
    own = np.array([loglik for loglik, _ in lm._loglikelihood_tokens(asked, disable_tqdm=True)])
    for launch in (ALWAYS, NEVER):
        found = np.array([loglik for loglik, _ in _answers(lm, pairs, launch)])
        # the median: the router of a mixture of experts may decide otherwise for a few, by rounding alone
        if not np.median(np.abs(found - own) - _rounding(own, lm.model.dtype)) <= 0:
            return f"its shared log-likelihoods differ from lm-eval's by {np.abs(found - own).max():.2g}"
    return None


def _answers(lm: Any, pairs: Sequence[Pair], launch: int) -> list[Answer]:
    shared = Shared(lm.model, launch=launch)
    return shared.answer(shared.plan(pairs, max_length=lm.max_length, batch_size=len(pairs)))


def _rounding(logliks: np.ndarray, dtype: torch.dtype) -> np.ndarray:
    """What differently shaped batches may do to a log-likelihood."""
    allowed: np.ndarray = np.maximum(1e-3, torch.finfo(dtype).eps * (8 + np.abs(logliks)))
    return allowed


def _pairs(vocabulary: int, max_length: int) -> list[Pair]:
    """Contexts that begin alike, of very different lengths, each with continuations of one to three tokens.

    Most rows then have much padding, and what takes padding for tokens errs by more than bfloat16 does.
    """
    rng = np.random.default_rng(0)

    def tokens(n: int) -> np.ndarray:
        return rng.integers(0, vocabulary, n, np.int32)

    start = tokens(9)
    contexts = [np.concatenate([start, tokens(n)]) for n in (1, 3, 8, 32)]
    lengths = [n for n in (1, 2, 3) if n <= max_length]
    return [Pair(context, tokens(n)) for context in contexts for n in lengths]
