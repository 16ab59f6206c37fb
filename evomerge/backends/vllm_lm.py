"""lm-eval's HFLM with the probabilities of a vLLM engine: the same tokens, windows and texts as the HF backend's."""

from __future__ import annotations

from typing import Any

import torch

from evomerge.backends.answers import check_sampling
from evomerge.backends.lm import RememberingLM
from evomerge.backends.vllm_engine import READ, Engine
from evomerge.errors import ConfigError

_ALL = 1 << 30  # requests that lm-eval hands over at once: the engine batches them itself
_SAMPLING = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
_IGNORED = ("attention_mask", "do_sample", "use_cache")


class EngineLM(RememberingLM):
    """HFLM over a model on the meta device, whose config says how to ask; the engine is asked.

    `at_once`: sequences that are asked together at most. Raises ConfigError for ways of generating that vLLM lacks,
    TaskError for sampling without a temperature.
    """

    at_once: int | None = None

    def __init__(self, engine: Engine, model: Any, tokenizer: Any) -> None:
        super().__init__(pretrained=model, tokenizer=tokenizer, batch_size=_ALL, max_length=engine.max_length)
        self._device = torch.device("cpu")  # of token ids: the model's own is meta
        self._engine = engine

    def _loglikelihood_tokens(self, requests: Any, disable_tqdm: bool = False, override_bs: int | None = None) -> Any:
        """(log-likelihood, is greedy) of (_, context, continuation) tokens, cut on the left to the model's length."""
        window = self.max_length + 1  # of which the last token is not read
        prompts = [[*context, *continuation][-window:] for _, context, continuation in requests]
        outputs = self._engine.generate(prompts, READ, at_once=self.at_once)
        return [_answer(o, len(continuation)) for o, (_, _, continuation) in zip(outputs, requests, strict=True)]

    def _model_generate(self, context: torch.Tensor, max_length: int, stop: list[str], **settings: Any) -> torch.Tensor:
        """Prompts (rows, columns), padded on the left, with their answers (rows, more columns), padded on the right."""
        mask = settings["attention_mask"].bool()
        prompts = [row[own].tolist() for row, own in zip(context, mask, strict=True)]
        sampling = {
            **_sampling(settings),
            "max_tokens": max_length - context.shape[1],
            "stop": stop,
            "skip_special_tokens": False,  # the end of a text is one of the stops
            "spaces_between_special_tokens": False,
        }
        outputs = self._engine.generate(prompts, sampling, at_once=self.at_once)
        answers = [torch.tensor(output.outputs[0].token_ids, dtype=torch.long) for output in outputs]
        padded = torch.nn.utils.rnn.pad_sequence(
            answers, batch_first=True, padding_value=float(self.tokenizer.pad_token_id)
        )
        return torch.cat([context, padded], dim=1)


def _answer(output: Any, n: int) -> tuple[float, bool]:
    """Of the last `n` tokens of the prompt; rank 1 is the likeliest token."""
    scores = output.prompt_logprobs
    return sum(scores.logprobs[-n:]), all(rank == 1 for rank in scores.ranks[-n:])


def _sampling(settings: dict[str, Any]) -> dict[str, Any]:
    odd = sorted(name for name in settings if name not in (*_SAMPLING, *_IGNORED))
    if odd:
        raise ConfigError(
            f"generation_kwargs has '{odd[0]}', which vLLM does not generate with. Known: {', '.join(_SAMPLING)}. "
            "Change the task, or use backend=hf."
        )
    check_sampling(settings)
    if not settings.get("do_sample") and not settings.get("temperature"):
        return {"temperature": 0.0, "repetition_penalty": settings.get("repetition_penalty", 1.0)}
    return {**{k: settings[k] for k in _SAMPLING if k in settings}, "seed": 0}
