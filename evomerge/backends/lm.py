"""lm-eval's HFLM with a memory of tokens; prompts that begin alike are read once where answers are generated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from lm_eval.models.huggingface import HFLM

from evomerge.backends.encoding import Memory
from evomerge.backends.prefixes import common
from evomerge.backends.shared import Shared


class RememberingLM(HFLM):
    """HFLM that tokenises each text once.

    `shared`: if set, what is common to the prompts of a batch is read once; else all computation is lm-eval's own.
    Its rolling log-likelihood heeds disable_tqdm: lm-eval 0.4.13 draws one bar per batch there.
    """

    shared: Shared | None = None
    _texts: Memory | None = None
    _asked_again = False  # not so the strings that lm-eval glues together from context and continuation

    def loglikelihood_rolling(self, requests: Any, disable_tqdm: bool = False) -> Any:
        with self._remembering():
            return super().loglikelihood_rolling(requests, disable_tqdm=disable_tqdm)

    def generate_until(self, requests: Any, disable_tqdm: bool = False) -> Any:
        with self._remembering():
            return super().generate_until(requests, disable_tqdm=disable_tqdm)

    def tok_encode(self, string: str, *args: Any, **settings: Any) -> list[int]:
        encode = partial(super().tok_encode, string, *args, **settings)
        key = ("one", string, args, tuple(settings.items()))
        return self._remembered(key, lambda: np.array(encode(), np.int32), len).tolist()  # type: ignore[no-any-return]

    def tok_batch_encode(self, strings: Sequence[str], *args: Any, **settings: Any) -> tuple[Any, Any]:
        encode = partial(super().tok_batch_encode, strings, *args, **settings)
        key = ("batch", tuple(strings), args, tuple(settings.items()))
        return self._remembered(key, encode, lambda made: made[0].numel())  # type: ignore[no-any-return]

    def _remembered(self, key: Any, make: Any, tokens: Any) -> Any:
        if not self._asked_again:
            return make()
        self._texts = self._texts or Memory()
        return self._texts.recall((id(self.tokenizer), key), make, tokens)

    @contextmanager
    def _remembering(self) -> Iterator[None]:
        self._asked_again = True
        try:
            yield
        finally:
            self._asked_again = False

    def _loglikelihood_tokens(self, requests: Any, disable_tqdm: bool = False, override_bs: int | None = None) -> Any:
        return super()._loglikelihood_tokens(requests, disable_tqdm=True, override_bs=override_bs)

    def _model_generate(self, context: torch.Tensor, max_length: int, stop: list[str], **settings: Any) -> Any:
        """Prompts (rows, columns), padded on the left, with their answers (rows, more columns)."""
        shared = self._common(context, max_length, settings) if self.shared else 0
        if self.shared and shared:
            mask = settings["attention_mask"].bool()
            prefix = context[0][mask[0]][:shared].to(torch.int32).cpu().numpy()
            context, mask = _padded_after(context, mask, shared)
            past = self.shared.prefixes.past(prefix, keep=True).repeated(len(context))
            settings |= {"attention_mask": mask.long(), "past_key_values": past.cache}
        return super()._model_generate(context, max_length, stop, **settings)

    def _common(self, context: torch.Tensor, max_length: int, settings: dict[str, Any]) -> int:
        """Tokens that all prompts of a batch begin with, if it pays to read them once and the model can."""
        assert self.shared is not None
        mask = settings["attention_mask"].bool()
        beams = settings.get("num_beams") or self.model.generation_config.num_beams or 1
        if beams > 1 or not self.shared.reaches(max_length):
            return 0
        rows = [row[own].numpy() for row, own in zip(context.cpu(), mask.cpu(), strict=True)]
        shared = min(common(rows[0], row) for row in rows)
        return shared if shared * (len(rows) - 1) > self.shared.launch else 0


def _padded_after(ids: torch.Tensor, mask: torch.Tensor, shared: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows whose padding on the left is moved behind their first `shared` tokens."""
    n = ids.shape[1]
    pads = (~mask).sum(1, keepdim=True)  # (rows, 1)
    at = torch.arange(n, device=ids.device).expand(len(ids), -1)
    source = torch.where(at < shared, at + pads, torch.where(at < shared + pads, at - shared, at))
    return ids.gather(1, source), mask.gather(1, source)
