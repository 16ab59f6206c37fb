"""lm-eval's HFLM whose forward pass is a completions server: its own rules for tokens and texts, no weights.

Not lm-eval's API model: that one keeps fewer tokens of what is too long, leaves out the token that opens a text where
an answer is generated, and overlooks completions that are missing, so that its scores are not HFLM's.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lm_eval.models.utils import handle_stop_sequences, normalize_gen_kwargs, postprocess_generated_text

from evomerge.backends.answers import check_sampling, errors_only, sound
from evomerge.backends.completions import Choice, Unavailable
from evomerge.backends.lm import RememberingLM
from evomerge.errors import TaskError

#: Prompts of tokens, and settings of the API for all of them -> completions in their order.
Ask = Callable[..., list[Choice]]
ALL = 10**9  # rows at once, as far as lm-eval's loops are concerned: `ask` makes the batches
ECHO = {
    "max_tokens": 1,
    "temperature": 0,
    "logprobs": 1,
    "echo": True,
}  # no fewer: some servers read 0 as their default
SEED = 0  # of sampling, where a task samples


class CompletionsLM(RememberingLM):
    """Made with a model on the meta device. `ask` has to be set before anything is asked."""

    ask: Ask

    def _loglikelihood_tokens(self, requests: Any, disable_tqdm: bool = False, override_bs: int | None = None) -> Any:
        pairs = [(context, continuation) for _, context, continuation in requests]
        for _, continuation in pairs:
            _check_length(len(continuation), self.max_length)
        prompts = [(context + continuation)[-(self.max_length + 1) :] for context, continuation in pairs]
        found = self.ask(prompts, **ECHO)
        scored = zip(found, prompts, pairs, strict=True)
        return [loglikelihood(choice, len(prompt), len(pair[1])) for choice, prompt, pair in scored]

    def generate_until(self, requests: Any, disable_tqdm: bool = False) -> list[str]:
        with self._remembering():
            asked = [self._generation(*request.args) for request in requests]
        texts = [""] * len(asked)
        for settings in dict.fromkeys(settings for _, settings in asked):
            places = [k for k, (_, own) in enumerate(asked) if own == settings]
            found = self.ask([asked[k][0] for k in places], **json.loads(settings))
            for place, choice in zip(places, found, strict=True):
                until = self._until(requests[place].args[1])
                texts[place] = postprocess_generated_text(str(choice["text"]), until, None)
        return texts

    def _generation(self, context: str, asked: Mapping[str, Any]) -> tuple[list[int], str]:
        """The prompt's tokens, and the settings of its completion as JSON: prompts of equal ones are asked together."""
        settings: dict[str, Any] = dict(normalize_gen_kwargs(dict(asked), self.max_gen_toks))
        new = settings.pop("max_gen_toks")
        _check_length(new + 1, self.max_length)
        tokens, _ = self.tok_batch_encode([context], left_truncate_len=self.max_length - new)
        check_sampling(settings)
        del settings["do_sample"]  # said by the temperature
        stop = [text for text in self._until(asked) if text]
        settings |= {"max_tokens": new, "stop": stop, "temperature": settings.get("temperature", 0.0), "seed": SEED}
        settings.pop("until", None)
        return tokens[0].tolist(), json.dumps(settings, sort_keys=True)

    def _until(self, asked: Mapping[str, Any]) -> list[str]:
        until = normalize_gen_kwargs(dict(asked), self.max_gen_toks)["until"]
        return list(handle_stop_sequences(until, eos=self.tok_decode(self.eot_token_id, skip_special_tokens=False)))


def listener(model: Any, tokenizer: Any, ask: Ask, longest: Callable[[int], int]) -> CompletionsLM:
    """model: on the meta device. longest: tokens to read at most, given what lm-eval finds in the model's config."""
    with errors_only():
        lm = CompletionsLM(pretrained=model, tokenizer=tokenizer, batch_size=ALL)
    lm._max_length = longest(lm.max_length)
    lm.ask = ask
    return lm


def loglikelihood(choice: Choice, tokens: int, scored: int) -> tuple[float, bool]:
    """Of the last `scored` of an echoed prompt of so many tokens: its sum, and whether greedy choice gives them.

    Raises MergeError if it is NaN, Unavailable if the server has not scored these tokens.
    """
    try:
        own = choice["logprobs"]["token_logprobs"][tokens - scored : tokens]
        best = [max(top.values()) for top in choice["logprobs"]["top_logprobs"][tokens - scored : tokens]]
        total = math.fsum(own)
    except (TypeError, KeyError, AttributeError, ValueError, OverflowError) as e:
        raise _unscored(choice, tokens) from e
    if len(own) != scored or len(best) != scored:
        raise _unscored(choice, tokens)
    found: tuple[float, bool] = sound((total, all(one >= top for one, top in zip(own, best, strict=True))))
    return found


def _unscored(choice: Choice, tokens: int) -> Unavailable:
    found = choice.get("logprobs") or {}
    return Unavailable(
        f"the server was sent a prompt of {tokens} tokens and scored {len(found.get('token_logprobs') or ())}. Wanted "
        "a log-probability for each but the first: a server whose completions know echo and logprobs, as vLLM's do."
    )


def _check_length(wanted: int, longest: int) -> None:
    if wanted > longest:
        raise TaskError(
            f"a task wants {wanted} tokens answered, and the server reads {longest} with their prompt. Raise "
            "backend.max_length and the server's own limit, or ask for shorter answers."
        )


def batches(prompts: Sequence[Any], size: int) -> list[Sequence[Any]]:
    return [prompts[start : start + size] for start in range(0, len(prompts), size)]
