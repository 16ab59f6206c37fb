"""What can be known of a server before a search pays for it: its base's name and tokens, that it serves adapters.

That its base has the weights of ours cannot be known from outside.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from evomerge.backends.completions import KEY, Choice, Refused, Server, Unavailable
from evomerge.backends.completions_lm import ECHO, loglikelihood
from evomerge.backends.served import Served
from evomerge.errors import ConfigError, unknown
from evomerge.models.family import Family
from evomerge.models.lora import Adapter

PROBE = "Question: which of these words is the name of a colour, stone, river or blue?\nAnswer: blue"
SPARE = 2  # tokens of a server's limit: one that is generated, one that is only predicted
NOISE = 0.05  # nats a token by which a server may answer differently when asked again, in bfloat16 and other batches


def refuse_others(family: Family) -> None:
    """Raises ConfigError for parents that are no adapters over a base of the same tokens."""
    whole = [p.name for p in family.parents if not isinstance(p, Adapter)]
    if family.base is None or whole:
        raise ConfigError(
            f"backend=api serves merged adapters over a base that stays as it is, and {whole[0] if whole else 'there'} "
            f"is {'a full checkpoint' if whole else 'no base'}. Set parents.base and adapters as parents.models, or "
            "backend=hf."
        )
    if family.vocabulary is not None:
        raise ConfigError("backend=api serves the base with its own tokens. Set parents.vocabulary=equal or base.")


def base_card(server: Server, name: str | None, folder: str) -> Mapping[str, Any]:
    """The server's entry for the base: the one called `name`, or its only one. Raises ConfigError."""
    try:
        cards = server.models()
    except (Unavailable, Refused) as e:
        raise ConfigError(
            f"{server.url} cannot be used: {e}\nbackend=api needs a server that runs already, started for example with "
            f"`VLLM_ALLOW_RUNTIME_LORA_UPDATING=True vllm serve {folder} --enable-lora --host 127.0.0.1 --port 8000` "
            f"and named by backend.base_url; a key goes into the variable {KEY}."
        ) from e
    bases = {key: card for key, card in cards.items() if not card.get("parent")}
    if name is None and len(bases) != 1:
        raise ConfigError(f"{server.url} serves {', '.join(bases) or 'nothing'}. Set backend.model to the base's name.")
    if name is not None and name not in bases:
        raise ConfigError(f"backend.model at {server.url}: " + unknown("model", name, bases))
    return bases[name] if name is not None else next(iter(bases.values()))


def longest(card: Mapping[str, Any], own: int, wanted: int | None) -> int:
    """Tokens that a forward pass of a local model would read, as many as the server can score. Raises ConfigError.

    own: the model's length by its config. wanted: backend.max_length.
    """
    limit = card.get("max_model_len")
    most = min(own, limit - SPARE) if isinstance(limit, int) else own
    if wanted is not None and isinstance(limit, int) and wanted > limit - SPARE:
        raise ConfigError(
            f"backend.max_length is {wanted}, and {card['id']} is served with {limit} tokens, {SPARE} of which are not "
            f"for us. Set at most {limit - SPARE}, or serve it with more (vLLM: --max-model-len {wanted + SPARE})."
        )
    return wanted or most


def check(server: Server, base: str, served: Served, family: Family, tokenizer: Any) -> None:
    """Ask one prompt of the base, of an adapter of zeros and of the parents. Raises ConfigError where they do not fit.

    A server may read other tokens than ours, may not see our files, and may take any name for its one model.
    """
    prompt = tokenizer.encode(PROBE, add_special_tokens=False)
    plain = _ask(server, base, prompt)
    _check_tokens(base, plain, tokenizer, prompt)
    _load(served, served.nothing(), server)
    zeros = _ask(server, served.name, prompt)
    if not _distance(plain, zeros) <= NOISE:
        raise ConfigError(
            f"{server.url} answers otherwise as '{base}' than with an adapter of zeros ({_distance(plain, zeros):.2g} "
            "nats a token). Wanted backend.model to be the base itself, without an adapter."
        )
    for parent in (p for p in family.parents if isinstance(p, Adapter)):
        factors = {name: parent.factors(name, torch.device("cpu")) for name in parent.changes if parent.low_rank(name)}
        _load(served, factors, server)
        if _logprobs(_ask(server, served.name, prompt)) != _logprobs(zeros):
            return
    raise ConfigError(
        f"{server.url} answers with every parent's adapter as without one: it ignores adapters, or these are empty. "
        "Wanted a server that applies what /v1/load_lora_adapter gives it."
    )


def _ask(server: Server, name: str, prompt: Sequence[int]) -> Choice:
    try:
        choice = server.complete(name, [prompt], **ECHO)[0]
        loglikelihood(choice, len(prompt), len(prompt) - 1)
    except (Unavailable, Refused) as e:
        raise ConfigError(f"{server.url} cannot score a prompt as '{name}': {e}") from e
    return choice


def _load(served: Served, factors: Any, server: Server) -> None:
    try:
        served.show_factors(factors)
    except (Unavailable, Refused) as e:
        rank = max(served.ranks().values(), default=0)
        raise ConfigError(
            f"{server.url} does not load an adapter of rank {rank} ({e}). For vLLM: set "
            "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True, pass --enable-lora and --max-lora-rank of that rank at least (or "
            "lower backend.rank), and see that the server reads the folder of backend.adapters under the same path."
        ) from e


def _check_tokens(base: str, choice: Choice, tokenizer: Any, prompt: Sequence[int]) -> None:
    """A token's text may be stripped or replaced by its id, so ids and texts without white space are compared."""
    found = choice["logprobs"].get("tokens") or []
    for token, told in zip(prompt, found, strict=False):
        if told != f"token_id:{token}" and str(told).split() != tokenizer.decode([token]).split():
            raise ConfigError(
                f"'{base}' reads token {token} as {told!r}, and the base of these parents as "
                f"{tokenizer.decode([token])!r}. Wanted a server of the same base: backend.base_url, backend.model."
            )


def _logprobs(choice: Choice) -> list[float]:
    return list(choice["logprobs"]["token_logprobs"][1:])


def _distance(one: Choice, other: Choice) -> float:
    """Mean absolute difference of what both say of the prompt."""
    pairs = list(zip(_logprobs(one), _logprobs(other), strict=False))
    return sum(abs(a - b) for a, b in pairs) / max(1, len(pairs))
