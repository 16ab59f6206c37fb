"""How a measure's prompts reach a model: rendered, asked greedily, and heard by who listens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lm_eval.api.instance import Instance

from evomerge.errors import TaskError
from evomerge.families import Request


@dataclass(frozen=True)
class Rendering:
    """From a document's text to the prompt a model reads."""

    measure: str
    apply_chat_template: bool = False
    system_instruction: str | None = None

    def __call__(self, text: str, backend: Any) -> str:
        """Raises TaskError if a chat template is wanted and the tokenizer has none."""
        system = self.system_instruction
        if not self.apply_chat_template:
            return f"{system}\n\n{text}" if system else text
        turns = [{"role": "system", "content": system}] if system else []
        try:
            return str(backend.apply_chat_template([*turns, {"role": "user", "content": text}]))
        except (AttributeError, ValueError) as e:
            raise TaskError(
                f"measure '{self.measure}': the tokenizer has no chat template ({e}). Set "
                f"measures.{self.measure}.apply_chat_template=false, or add a template to the base model's tokenizer."
            ) from e


def generation(prompts: Sequence[str], *, max_tokens: int, until: Sequence[str]) -> list[Request]:
    """Requests for greedy answers, of no more than `max_tokens` tokens, that end before any string of `until`."""
    settings = {"until": list(until), "max_gen_toks": max_tokens, "do_sample": False}
    return _requests("generate_until", [(prompt, dict(settings)) for prompt in prompts])


def rolling(texts: Sequence[str]) -> list[Request]:
    """Requests for the log-likelihood of whole texts."""
    return _requests("loglikelihood_rolling", [(text,) for text in texts])


def one_more_token(prompts: Sequence[str]) -> list[Request]:
    """Requests that cost what a next-token distribution costs: for who plans memory or time."""
    return _requests("loglikelihood", [(prompt, " ") for prompt in prompts])


def _requests(kind: Any, arguments: Sequence[tuple[Any, ...]]) -> list[Request]:
    return [Instance(kind, {}, args, 0, (None, None, 1)) for args in arguments]
