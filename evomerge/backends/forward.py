"""A decoder's forward pass over rows that go on after cached tokens; logits only of the columns that are read."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache


@dataclass(frozen=True)
class Past:
    """Keys and values of rows, and which of their columns are tokens: bool (rows, columns), False at padding.

    Masks stay on the host: what is decided by them must not wait for the device.
    """

    cache: DynamicCache
    mask: torch.Tensor

    def repeated(self, n: int) -> Past:
        """The one row for each of n rows that go on after it; no copy is made."""
        return Past(_twin(self.cache, lambda state: state.expand(n, -1, -1, -1)), self.mask.expand(n, -1))

    def selected(self, rows: list[int]) -> Past:
        """Row rows[k] for row k."""
        return Past(_twin(self.cache, lambda state: state[torch.tensor(rows, device=state.device)]), self.mask[rows])

    def give(self, rows: list[int]) -> Past:
        """As `selected`, layer by layer in place of this one, which is of no use afterwards."""
        self.cache.batch_select_indices(torch.tensor(rows))
        return Past(self.cache, self.mask[rows])


def _twin(cache: DynamicCache, take: Callable[[torch.Tensor], torch.Tensor]) -> DynamicCache:
    """A cache that grows apart from `cache`: growing makes new tensors, and leaves the old ones as they are."""
    twin = copy.copy(cache)
    layers: list[Any] = [copy.copy(layer) for layer in cache.layers]
    for layer in layers:
        layer.keys, layer.values = take(layer.keys), take(layer.values)
    twin.layers = layers
    return twin


class Forward:
    """Calls a transformers decoder. Padding has token 0, no attention, and the position of the token before it."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self._accepted = inspect.signature(model.forward).parameters

    def start(self, tokens: np.ndarray) -> Past:
        """Cache of one row."""
        past = self.nothing(1)
        ids, mask = self.rows([tokens])
        self(ids, mask, past, keep=1)
        return Past(past.cache, mask)

    def nothing(self, rows: int) -> Past:
        """An empty cache. Made without the config: a sliding window would drop what other rows still need."""
        return Past(DynamicCache(), torch.empty(rows, 0, dtype=torch.bool))

    def rows(self, rows: Sequence[Any]) -> tuple[torch.Tensor, torch.Tensor]:
        """Token ids, on the device, and mask of rows aligned to the right: int64 and bool (rows, columns)."""
        width = max(map(len, rows))
        ids, mask = np.zeros((len(rows), width), np.int64), np.zeros((len(rows), width), bool)
        for k, row in enumerate(rows):
            ids[k, width - len(row) :], mask[k, width - len(row) :] = row, True
        return torch.from_numpy(ids).to(self.model.device), torch.from_numpy(mask)

    def __call__(self, ids: torch.Tensor, mask: torch.Tensor, past: Past | None, *, keep: int) -> torch.Tensor:
        """Logits (rows, keep, vocabulary) of the last `keep` columns; the cache of `past` grows by these columns.

        mask: bool (rows, columns of `past` and of `ids`), or of `ids` alone where there is no past.
        """
        at = positions(mask)[:, -ids.shape[1] :].to(ids.device)
        wanted: dict[str, Any] = {"use_cache": past is not None, "position_ids": at, "logits_to_keep": keep}
        if past is not None:
            wanted["past_key_values"] = past.cache
        if not mask.all():  # without padding, attention is faster with no mask of ours
            wanted["attention_mask"] = mask.long().to(ids.device)
        accepted = {name: value for name, value in wanted.items() if name in self._accepted}
        logits: torch.Tensor = self.model(input_ids=ids, **accepted).logits
        return logits[:, -keep:]


def positions(mask: torch.Tensor) -> torch.Tensor:
    """int64, of the same shape: tokens count on from 0, whatever padding lies between them."""
    return (mask.long().cumsum(-1) - 1).clamp(min=0)
