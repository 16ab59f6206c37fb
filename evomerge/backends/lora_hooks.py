"""Rows of one batch that belong to different candidates: each module adds to a row what that row's candidate changes.

The weights are never written: y += ((x A^T) * c) B^T, with a row of c for each candidate (the batching of adapters in
Punica, Chen et al. 2023, arXiv:2310.18547, for candidates that share their factors).

Factors and their sum with a module's output are float32, and the sum is rounded once. A candidate is its coefficients:
in bfloat16, which keeps 8 bits, those of near candidates would become equal, and small changes would be lost.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from evomerge.backends.population import Joined
from evomerge.errors import ConfigError
from evomerge.models import names as naming
from evomerge.models.parent import Parent

_REMEDY = "Set backend=hf, which builds every candidate."


class Change:
    """A forward hook: row r of a batch is changed by coefficients `table[r % k]`, table being float32 (k, R)."""

    def __init__(self, module: Any, joined: Joined, name: str) -> None:
        from transformers.pytorch_utils import Conv1D

        kind = type(module)  # subclasses may do more to their output, as an embedding that scales it
        if kind not in (torch.nn.Linear, torch.nn.Embedding, Conv1D):
            raise ConfigError(f"'{name}' belongs to a {kind.__name__}, which takes no adapter while live. {_REMEDY}")
        out_in = kind is torch.nn.Linear
        inner, outer = (joined.right.T, joined.left.T) if out_in else (joined.left, joined.right)
        device = module.weight.device
        self._inner, self._outer = inner.contiguous().to(device), outer.contiguous().to(device)  # (in, R), (R, out)
        self._lookup = kind is torch.nn.Embedding
        self.table = torch.zeros(1, len(joined.owners), device=device)

    def __call__(self, module: Any, args: tuple[torch.Tensor], output: torch.Tensor) -> torch.Tensor:
        if output.dim() != 3:
            raise ConfigError(f"a module's rows cannot be told in an output of shape {tuple(output.shape)}. {_REMEDY}")
        x = args[0]
        inner = self._inner[x] if self._lookup else x.float() @ self._inner  # (rows, columns, R)
        turned = inner.view(-1, len(self.table), *inner.shape[1:]) * self.table[:, None]  # (rows / k, k, columns, R)
        change: torch.Tensor = turned.flatten(0, 1) @ self._outer
        return (output + change).to(output.dtype)


class Changes:
    """The hooks of a live model and whose coefficients they use. Nobody's until the first `load`: it is the base."""

    def __init__(self, model: Any, joined: Mapping[str, Joined]) -> None:
        self.parameters = _parameters(model, joined)
        self._hooks: dict[str, list[Change]] = {}
        for name, parameter in self.parameters.items():
            owners = [m for m in model.modules() if getattr(m, "weight", None) is parameter]
            if not owners:
                raise ConfigError(f"no module of the live model has '{name}' as its weight. {_REMEDY}")
            self._hooks[name] = [Change(module, joined[name], name) for module in owners]  # two where it is tied
            for module, hook in zip(owners, self._hooks[name], strict=True):
                module.register_forward_hook(hook)
        self._tables = {name: torch.zeros(1, len(own.owners)) for name, own in joined.items()}

    def load(self, tables: Mapping[str, torch.Tensor]) -> None:
        """Tensor -> float32 (slots, R). Rows are those of slot 0 until `only` or `in_turn` says otherwise."""
        self._tables = dict(tables)
        self.only(0)

    def only(self, slot: int) -> None:
        """Every row is of this slot."""
        self._use(slice(slot, slot + 1))

    @contextmanager
    def in_turn(self, slot: int) -> Iterator[None]:
        """Inside, rows take turns: 0, 1, ..., slots - 1, 0, ...; afterwards every row is of `slot`."""
        self._use(slice(None))
        try:
            yield
        finally:
            self.only(slot)

    def _use(self, slots: slice) -> None:
        for name in self.parameters:
            for hook in self._hooks[name]:
                hook.table = self._tables[name][slots].to(hook.table.device)


def _parameters(model: Any, joined: Mapping[str, Joined]) -> dict[str, torch.Tensor]:
    """File name -> live parameter, once for a tied one."""
    live = dict(model.state_dict(keep_vars=True))
    found: dict[str, torch.Tensor] = {}
    for name in joined:
        home = naming.find(name, live, model.base_model_prefix)
        if home is None or home.box:
            raise ConfigError(f"'{name}' is a part of a larger tensor in the live model. {_REMEDY}")
        if all(live[home.tensor] is not other for other in found.values()):
            found[name] = live[home.tensor]
    return found


@torch.no_grad()
def verify(model: Any, changes: Changes, joined: Mapping[str, Joined], base: Parent) -> None:
    """Demand that all adapters at once, through the hooks, give the logits of the weights they mean.

    The weights are written for a moment and read from the base's files again. Raises ConfigError for a model that
    uses a weight past its module, or otherwise than a matrix product.
    """
    ids = torch.from_numpy(np.random.default_rng(0).integers(0, model.get_input_embeddings().num_embeddings, (2, 16)))
    plain = _logits(model, ids)
    changes.load({name: torch.ones(2, len(own.owners)) for name, own in joined.items()})
    with changes.in_turn(0):
        found = _logits(model, ids)
    changes.load({name: torch.zeros(1, len(own.owners)) for name, own in joined.items()})
    wanted = _written(model, changes, joined, base, ids)
    rounding = torch.finfo(model.dtype).eps * (8 + wanted.abs())
    allowed = (wanted - plain).abs().median() / 10 + rounding.median()
    if not (found - wanted).abs().median() <= allowed:
        raise ConfigError(
            f"the live model's logits with adapters added differ by {(found - wanted).abs().median():.2g} from those "
            f"of the weights they mean; {allowed:.2g} is allowed. This model takes no adapters while live. {_REMEDY}"
        )


def _written(
    model: Any, changes: Changes, joined: Mapping[str, Joined], base: Parent, ids: torch.Tensor
) -> torch.Tensor:
    try:
        for name, parameter in changes.parameters.items():
            left, right = (half.to(parameter.device) for half in (joined[name].left, joined[name].right))
            parameter.copy_(parameter.float() + left @ right)
        return _logits(model, ids)
    finally:
        for name, parameter in changes.parameters.items():
            parameter.copy_(base.read(name))


def _logits(model: Any, ids: torch.Tensor) -> torch.Tensor:
    logits: torch.Tensor = model(input_ids=ids.to(model.device)).logits
    return logits.float()
