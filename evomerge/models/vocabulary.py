"""How parents of unequal vocabularies come together: rows of embeddings and head are matched by token, not by id."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from evomerge.errors import ParentError
from evomerge.models import layout
from evomerge.models.parent import Parent

if TYPE_CHECKING:
    from tokenizers import AddedToken

_NOT_TOKENS = re.compile(r"(^|[._])(wpe|pos|positions?|positional|types?|segments?)([._]|$)")


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """Which row of which parent a row of the merged model is.

    `rows`: by parent digest, int64 (size,): the row in that parent, -1 where it has none (a token it lacks, padding).
    `tokens` are those to add to the base's tokenizer, in the order of their ids; `notes` are for the user.
    """

    policy: str
    size: int
    base: str
    rows: Mapping[str, torch.Tensor]
    tokens: tuple[AddedToken, ...] = ()
    notes: tuple[str, ...] = ()

    def shape(self, parent: Parent, name: str) -> tuple[int, ...]:
        """The shape of a parent's tensor after gathering."""
        shape = parent.shapes[name]
        return (self.size, *shape[1:]) if is_vocabulary_tensor(parent, name) else shape

    def gather(self, digest: str, read: Callable[[str], torch.Tensor]) -> torch.Tensor:
        """A parent's vocabulary tensor on the merged rows: (rows, ...) -> (size, ...), a new tensor.

        A row the parent lacks is the base's; one the base lacks is the mean over the parents that have it, for all
        who lack it. `read` gives that tensor of the parent with a digest. The dtype is the parent's, or float32
        where means were taken.
        """
        base = self._with_means(read)
        return base if digest == self.base else _placed(read(digest), self.rows[digest], base)

    def _with_means(self, read: Callable[[str], torch.Tensor]) -> torch.Tensor:
        own, rows = read(self.base), self.rows[self.base]
        (lacking,) = torch.where(rows < 0)
        if not len(lacking):
            return own[rows.to(own.device)]
        dtype = torch.promote_types(own.dtype, torch.float32)
        total = torch.zeros((self.size, *own.shape[1:]), dtype=dtype, device=own.device)
        holders = torch.zeros(self.size, dtype=dtype, device=own.device)
        for digest, theirs in self.rows.items():
            held = lacking[theirs[lacking] >= 0]
            total[held] += read(digest)[theirs[held].to(own.device)].to(dtype)
            holders[held] += 1
        mean = total / holders.clamp(min=1).view(-1, *[1] * (own.dim() - 1))
        return _placed(own, rows, mean)


def _placed(own: torch.Tensor, rows: torch.Tensor, rest: torch.Tensor) -> torch.Tensor:
    """`rest` with the own rows written where there are any."""
    rows = rows.to(own.device)
    placed = rest.to(torch.promote_types(own.dtype, rest.dtype))
    placed[rows >= 0] = own[rows[rows >= 0]].to(placed.dtype)
    return placed


def is_vocabulary_tensor(parent: Parent, name: str) -> bool:
    """Whether the tensor has one row per token: embeddings, head and its bias; not positions or token types."""
    return named_by_token(name) and parent.shapes[name][:1] == (n_rows(parent),)


def n_rows(parent: Parent) -> int:
    """Rows of the embedding, padding included: of the matrix outside the blocks that has most.

    Read from shapes, for a config may be stale. Raises ParentError if there is no embedding.
    """
    matrices = [shape for name, shape in parent.shapes.items() if len(shape) == 2 and _named(name, "embeddings")]
    if not matrices:
        raise ParentError(f"{parent.name} has no embedding among its tensors. Give a language model.")
    return max(rows for rows, _ in matrices)


def named_by_token(name: str) -> bool:
    """Whether a tensor of this name should have a row per token."""
    return _named(name, "embeddings", "head")


def _named(name: str, *parts: str) -> bool:
    return layout.place(name).part in parts and not _NOT_TOKENS.search(name)
