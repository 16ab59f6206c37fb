"""The longest requests of some tasks, in tokens: what the evaluator must hold at once, learned without a model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from evomerge.families import Request, Task
from evomerge.memory.plan import Load

LONGEST = 16  # requests of a kind that are tokenised: the longest in characters
LENGTHS = ("n_positions", "max_position_embeddings", "n_ctx")  # where lm-eval looks for a model's length
ANSWER = 256  # tokens of an answer where the task names no number; lm-eval's own default


class _Heard(Exception):
    """The requests are known: nothing more is wanted of the task."""


class Ruler:
    """Takes a backend's place: listens to what a task asks, and answers nothing."""

    batch_size = 1

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.requests: list[Request] = []

    def answer(self, requests: Sequence[Request]) -> list[Any]:
        self.requests = list(requests)
        raise _Heard

    def apply_chat_template(self, messages: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """Messages as HFLM renders them, so that a task's requests are built once for both."""
        return str(
            self.tokenizer.apply_chat_template(
                messages,
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
                continue_final_message=not add_generation_prompt,
            )
        )


@dataclass(frozen=True)
class Asked:
    """How a task asks: requests for an item (their mean), and tokens of the longest, of either kind."""

    task: str
    per_item: float
    scored: int
    generated: int


def requests_of(task: Task, items: Sequence[str], tokenizer: Any) -> list[Request]:
    """The requests these items make. Raises TaskError if their prompts cannot be made."""
    ruler = Ruler(tokenizer)
    with suppress(_Heard):
        task.score(ruler, items)  # type: ignore[arg-type]  # a ruler is asked, never opened or written
    return ruler.requests


def asked(task: Task, items: Sequence[str], tokenizer: Any) -> Asked:
    """How these items ask. Raises TaskError if their prompts cannot be made."""
    requests = requests_of(task, items, tokenizer)
    kinds: dict[bool, list[Request]] = {False: [], True: []}
    for request in requests:
        kinds[request.request_type == "generate_until"].append(request)
    return Asked(
        task.name,
        len(requests) / max(1, len(items)),
        longest((scored_text(r) for r in kinds[False]), tokenizer),
        max((longest([r.args[0]], tokenizer) + _answer(r) for r in _longest_prompts(kinds[True])), default=0),
    )


def longest(texts: Iterable[str], tokenizer: Any) -> int:
    """Tokens of the longest text. Only the longest in characters are tokenised."""
    some = sorted(texts, key=len, reverse=True)[:LONGEST]
    return max((len(tokenizer(text, verbose=False)["input_ids"]) for text in some), default=0)


def scored_text(request: Request) -> str:
    """Context and continuation, or the whole text of a rolling log-likelihood."""
    return "".join(map(str, request.args))


def _longest_prompts(requests: Sequence[Request]) -> list[Request]:
    return sorted(requests, key=lambda r: (_answer(r), len(r.args[0])), reverse=True)[:LONGEST]


def _answer(request: Request) -> int:
    return int(request.args[1].get("max_gen_toks", ANSWER))


def load_of(found: Sequence[Asked], batch_size: int, max_length: int) -> Load:
    """The load of the tasks together; lm-eval cuts what is longer than the model can read."""
    return Load(
        batch_size,
        min(max((a.scored for a in found), default=0), max_length),
        min(max((a.generated for a in found), default=0), max_length),
    )


def all_items(task: Task) -> list[str]:
    return list(dict.fromkeys(item for ids in task.items.values() for item in ids))


def ask_all(tasks: Iterable[Task], tokenizer: Any) -> dict[str, Asked]:
    return {task.name: asked(task, all_items(task), tokenizer) for task in tasks}


def max_length_of(config: Any, setting: int | None) -> int:
    """The setting, else the model's own. config: of transformers; 2048 as in lm-eval where it does not say."""
    text = config.get_text_config()
    own = next((v for k in LENGTHS if (v := getattr(text, k, None))), None)
    return setting or int(own or 2048)
