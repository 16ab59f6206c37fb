"""The names of the live model that PEFT writes into adapters, and the base's tensors behind them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from evomerge.models.blank import empty_model
from evomerge.models.parent import Parent


@dataclass(frozen=True)
class Skeleton:
    """The live model without its weights.

    `names` maps the live name of every tensor to all the names it goes by: more than one where the model ties.
    `at_rest` maps a live name to the tensors of the base's files that hold it. `in_out` are modules that keep their
    weight as (in, out), against (out, in) of a linear layer; `lookups` are embeddings, (rows, width).
    """

    prefix: str
    names: Mapping[str, tuple[str, ...]]
    at_rest: Mapping[str, tuple[str, ...]]
    modules: tuple[str, ...]
    in_out: frozenset[str]
    lookups: frozenset[str]

    def find(self, name: str) -> str | None:
        """The live name of a tensor that is spelt with or without the model's leading prefix."""
        return next((n for n in (name, f"{self.prefix}.{name}") if n in self.names), None)


def skeleton(base: Parent) -> Skeleton:
    """The skeleton of a base, from its config alone. Raises ParentError for an architecture transformers lacks."""
    from transformers.pytorch_utils import Conv1D

    model = empty_model(base.folder)
    modules = dict(model.named_modules())
    prefix = model.base_model_prefix
    names = _tied_names(model)
    return Skeleton(
        prefix=prefix,
        names=names,
        at_rest={live: _at_rest(group, prefix, base) for live, group in names.items()},
        modules=tuple(modules),
        # by class, for the config's fan_in_fan_out is one flag for linear layers of both kinds
        in_out=frozenset(name for name, m in modules.items() if isinstance(m, Conv1D)),
        lookups=frozenset(name for name, m in modules.items() if isinstance(m, torch.nn.Embedding)),
    )


def _tied_names(model: Any) -> dict[str, tuple[str, ...]]:
    groups: dict[int, list[str]] = {}
    for name, tensor in model.named_parameters(remove_duplicate=False):
        groups.setdefault(id(tensor), []).append(name)
    return {name: tuple(group) for group in groups.values() for name in group}


def _at_rest(group: tuple[str, ...], prefix: str, base: Parent) -> tuple[str, ...]:
    spelt = [spelling for name in group for spelling in (name, name.removeprefix(f"{prefix}."))]
    return tuple(dict.fromkeys(name for name in spelt if name in base.shapes))
