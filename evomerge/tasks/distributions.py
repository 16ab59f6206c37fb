"""Next-token distributions of a live model, coarsened to the likeliest tokens of a reference, and how far they differ.

Coarsening: the reference's `top` likeliest tokens are kept and all others counted as one. It can only lower a
divergence (the data processing inequality), and the value is exact for the coarsened pair.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import torch

from evomerge.errors import MergeError, TaskError

Found = TypeVar("Found")


@dataclass(frozen=True, eq=False)
class Coarse:
    """A reference's distributions at T positions.

    tokens: int64 (T, top). logprobs: float32 (T, top + 1), those of the tokens and of all others together.
    """

    tokens: torch.Tensor
    logprobs: torch.Tensor

    @classmethod
    def of(cls, logprobs: torch.Tensor, top: int) -> Coarse:
        """logprobs: float32 (T, V)."""
        tokens = logprobs.topk(min(top, logprobs.shape[1]), dim=1).indices
        return cls(tokens.cpu(), coarsen(logprobs, tokens).cpu())


def coarsen(logprobs: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """float32 (T, V) and int64 (T, top) -> float32 (T, top + 1): the tokens, then the rest (-inf if there is none)."""
    rest = logprobs.scatter(1, tokens, -math.inf).logsumexp(dim=1, keepdim=True)
    return torch.cat([logprobs.gather(1, tokens), rest], dim=1)


def kl(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """KL(p || q) in nats of log-probabilities (..., n) over the last axis; 0 log 0 counts as 0."""
    terms = torch.where(p == -math.inf, 0.0, p.exp() * (p - q))
    return terms.sum(dim=-1).clamp(min=0.0)  # rounding alone goes below


def js(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """Jensen-Shannon divergence in nats, in [0, ln 2] (Lin 1991, doi:10.1109/18.61115)."""
    middle = torch.logaddexp(p, q) - math.log(2)
    return (kl(p, middle) + kl(q, middle)) / 2


def at_prompts(
    backend: Any, prompts: Sequence[str], positions: Literal["last", "all"], take: Callable[[int, torch.Tensor], Found]
) -> list[Found]:
    """What `take(place of the prompt, float32 (T, V) log-probabilities)` gives, prompt by prompt.

    The distributions are those after the whole prompt (T = 1) or after each of its tokens. Prompts are cut on the
    left to the model's length. Raises TaskError for an encoder-decoder, MergeError if a probability is NaN.
    """
    lm = backend.lm
    if lm.backend != "causal":
        raise TaskError("a divergence is measured after a prompt's tokens, which an encoder-decoder does not predict.")
    ids = [(lm.tok_encode(prompt) or [lm.prefix_token_id])[-lm.max_length :] for prompt in prompts]
    order = sorted(range(len(ids)), key=lambda i: -len(ids[i]))  # alike in length: little padding
    found: dict[int, Found] = {}
    for start in range(0, len(order), backend.batch_size):
        places = order[start : start + backend.batch_size]
        logits = _logits(lm, [ids[i] for i in places])  # (B, longest, V)
        for row, place in enumerate(places):
            end = len(ids[place])
            found[place] = take(place, _logprobs(logits[row, end - 1 if positions == "last" else 0 : end]))
    return [found[i] for i in range(len(ids))]


def _logits(lm: Any, ids: Sequence[Sequence[int]]) -> torch.Tensor:
    """Padded on the right, where a causal model does not look back at."""
    longest = max(map(len, ids))
    padded = torch.tensor([[*row, *[0] * (longest - len(row))] for row in ids], device=lm.device)
    with torch.inference_mode():
        return lm._model_call(padded)  # type: ignore[no-any-return]


def _logprobs(logits: torch.Tensor) -> torch.Tensor:
    logprobs = logits.float().log_softmax(dim=-1)
    if logprobs.isnan().any():
        raise MergeError("the merged model answers with NaN: its weights are out of any useful range")
    return logprobs
