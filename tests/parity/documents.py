"""Random merges in mergekit's language: any setting a number, a gradient or a list of filters, at any level."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

from evomerge.mergekit_io.dialect import DIALECTS, Parameter
from tests.mergekit_io.llamas import BLOCKS

FILTERS = ("mlp", "self_attn", "q_proj", "norm", "layers.1.", "embed_tokens", "lm_head")
RANGES = {
    "weight": (0.1, 1.0),
    "density": (0.1, 1.0),
    "gamma": (0.0, 0.2),
    "lambda": (0.5, 1.5),
    "t": (0.0, 1.0),
    "scale": (-1.0, 2.0),
    "select_topk": (0.05, 1.0),
    "epsilon": (0.01, 0.08),
    "r": (0.0, 2.0),
    "alpha": (0.0, 2.0),
    "tol": (1e-6, 1e-4),
    "eps": (1e-9, 1e-7),
    "max_iter": (1, 12),
}


def document(method: str, models: Sequence[str], base: str, draw: random.Random) -> dict[str, Any]:
    """Of all that a method takes. Masks are never drawn: methods that draw them have density 1."""
    dialect = DIALECTS[method]
    least, most = dialect.models
    chosen = draw.sample(models, most or draw.randint(max(least, 1), len(models)))
    with_base = dialect.base == "required" or (method != "passthrough" and draw.random() < 0.5)
    own = {m: _settings(method, draw, own=True) for m in chosen}
    text = {
        "merge_method": method,
        "dtype": "float32",
        **({"base_model": base} if with_base else {}),
        "parameters": _settings(method, draw, own=False),
    }
    if dialect.base == "ignored" and with_base:
        own[base] = _settings(method, draw, own=True)
    if draw.random() < 0.5:
        return {**text, "models": [{"model": m, "parameters": s} for m, s in own.items()]}
    return {**text, "slices": _slices(own, base if with_base else None, draw)}


def _slices(own: dict[str, Any], base: str | None, draw: random.Random) -> list[dict[str, Any]]:
    """Two slices of two blocks, from anywhere; the base's blocks are those of the first model."""
    slices = []
    for _ in range(2):
        starts = {model: draw.randint(0, BLOCKS - 2) for model in own}
        if base is not None and base not in own:
            starts[base] = starts[next(iter(own))]
        found = [
            {"model": model, "layer_range": [start, start + 2], "parameters": own.get(model, {})}
            for model, start in starts.items()
        ]
        slices.append({"sources": found})
    return slices


def _settings(method: str, draw: random.Random, *, own: bool) -> dict[str, Any]:
    """A model's own settings; or the common ones, among them what a model may leave out."""
    found = {}
    for parameter in DIALECTS[method].parameters:
        if own and (parameter.scope == "shared" or draw.random() < 0.3):
            continue
        if parameter.default is None or draw.random() < 0.7:
            found[parameter.name] = _setting(method, parameter, draw)
    return found


def _setting(method: str, parameter: Parameter, draw: random.Random) -> Any:
    def value() -> Any:
        if parameter.kind == "flag":
            return draw.random() < 0.5
        if DIALECTS[method].random and parameter.name in ("density", "epsilon"):
            return {"density": 1.0, "epsilon": 0.1}[parameter.name]
        low, high = (0.005, 0.1) if method == "nearswap" else RANGES[parameter.name]
        return draw.randint(int(low), int(high)) if parameter.kind == "count" else draw.uniform(low, high)

    def gradient() -> Any:
        return value() if parameter.kind == "count" else [value() for _ in range(draw.randint(2, 4))]

    forms: tuple[Callable[[], Any], ...] = (
        value,
        gradient,
        lambda: [{"filter": draw.choice(FILTERS), "value": gradient()}, {"value": value()}],
    )
    return draw.choice(forms)()
