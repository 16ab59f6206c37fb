"""Parents' vocabularies compared, and matched by token under a policy: equal, base or union."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from evomerge.errors import ConfigError, ParentError, unknown
from evomerge.models import tokenizer
from evomerge.models.parent import Parent
from evomerge.models.vocabulary import Vocabulary, n_rows, named_by_token

if TYPE_CHECKING:
    from tokenizers import AddedToken

#: equal: refuse any difference. base: the base's tokens alone. union: the base's, then those of the other parents.
POLICIES = ("equal", "base", "union")


@dataclass(frozen=True)
class Lexicon:
    """A parent's tokens with their ids (empty without a tokenizer), the flags of its added ones, its number of rows."""

    parent: Parent
    rows: int
    tokens: Mapping[str, int]
    added: Mapping[str, AddedToken]


def reconcile(policy: str, base: Parent, parents: Sequence[Parent]) -> Vocabulary | None:
    """How the parents' rows come together under a policy; None if all have the same tokens and rows already.

    `base` lends the tokenizer and may be one of the parents. A parent without a tokenizer is taken to have the
    base's. Raises ParentError for tokenizers that are broken, that have ids beyond the model's rows, or that differ
    under `equal`; ConfigError for an unknown policy.
    """
    if policy not in POLICIES:
        raise ConfigError(unknown("vocabulary policy", policy, POLICIES))
    lexicons = [read_lexicon(p) for p in (base, *parents)]
    known = next((one for one in lexicons if one.tokens), lexicons[0])
    clashes = [clash for one in lexicons if (clash := _clash(known, one))]
    if not clashes:
        return None
    if policy == "equal":
        raise ParentError(
            f"parents have unequal vocabularies: {clashes[0]}. Set parents.vocabulary=base (the base's tokens alone) "
            "or parents.vocabulary=union (the tokens of all), or drop the parent."
        )
    first, *others = _distinct(_completed(one, lexicons[0]) for one in lexicons)
    return _base(first, others) if policy == "base" else _union(first, others)


def read_lexicon(parent: Parent) -> Lexicon:
    """Raises ParentError for a broken tokenizer, and for an id beyond the model's rows."""
    found, rows = tokenizer.load(parent.folder), n_rows(parent)
    if found is None:
        return Lexicon(parent, rows, {}, {})
    tokens: dict[str, int] = found.get_vocab()
    beyond = sorted((row, token) for token, row in tokens.items() if row >= rows)
    if beyond:
        row, token = beyond[0]
        raise ParentError(
            f"token {token!r} of {parent.name} has the id {row}, and the model has {rows} rows ({len(beyond)} such "
            "tokens). Take it out of the tokenizer, or give the model a row for it (resize_token_embeddings) and save."
        )
    return Lexicon(parent, rows, tokens, tokenizer.added_tokens(found))


# ---------------------------------------------------------------- comparing


def _clash(one: Lexicon, other: Lexicon) -> str:
    """What differs, with both values; empty if nothing does."""
    a, b = one.parent.name, other.parent.name
    found = [] if one.rows == other.rows else [f"rows {one.rows} in {a}, {other.rows} in {b}"]
    if one.tokens and other.tokens and one.tokens != other.tokens:
        odd = {token for token, _ in one.tokens.items() ^ other.tokens.items()}
        _, token = min((x.tokens[t], t) for t in odd for x in (one, other) if t in x.tokens)
        here, there = (x.tokens.get(token, "missing") for x in (one, other))
        found.append(f"token {token!r} is {here} in {a} and {there} in {b} ({len(odd)} tokens differ)")
    return "; ".join(found)


def _completed(one: Lexicon, base: Lexicon) -> Lexicon:
    """With the base's tokens where it has none of its own. Raises ParentError where its rows cannot be told apart."""
    if not base.tokens:
        raise ParentError(
            f"{base.parent.name} lends the tokenizer and has none, so rows cannot be matched by token. Add its files."
        )
    if not one.tokens and one.rows != base.rows:
        raise ParentError(
            f"{one.parent.name} has no tokenizer, and rows {one.rows} where {base.parent.name} has {base.rows}: whose "
            "tokens they are cannot be told. Add its tokenizer's files, or drop it."
        )
    for name, shape in one.parent.shapes.items():
        if named_by_token(name) and shape and shape[0] != one.rows:
            raise ParentError(
                f"'{name}' of {one.parent.name} has {shape[0]} rows and the embedding {one.rows}: whose tokens they "
                "are cannot be told. Such models can be merged with parents of the same vocabulary only."
            )
    return one if one.tokens else replace(one, tokens=base.tokens)


def _distinct(lexicons: Iterable[Lexicon]) -> list[Lexicon]:
    """One for each content digest: the base may be a parent too."""
    found: dict[str, Lexicon] = {}
    for one in lexicons:
        if found.setdefault(one.parent.digest, one).tokens != one.tokens:
            raise ParentError(f"{one.parent.name} has the weights of another parent and another tokenizer. Drop one.")
    return list(found.values())


# ---------------------------------------------------------------- matching


def _base(base: Lexicon, others: Sequence[Lexicon]) -> Vocabulary:
    dropped = len(_foreign(base, others))
    note = f"{dropped} tokens that {base.parent.name} lacks are left out"
    return _matched("base", base, others, base.tokens, (), [note] if dropped else [])


def _union(base: Lexicon, others: Sequence[Lexicon]) -> Vocabulary:
    """As mergekit's `tokenizer_source: union`, whose rows were compared, token by token, and are equal.

    But the base's padding rows stay, its own tokens keep their flags, and ids are in the parents' order. Without a
    base_model, mergekit gives a parent that lacks a token the mean of all who have it; here the first parent's row.
    """
    new = tuple(_foreign(base, others).values())
    ids = tokenizer.extend(base.parent.folder, new).get_vocab()
    notes = [f"{len(new)} tokens that {base.parent.name} lacks are added to its tokenizer"] if new else []
    words = sum(all(token.content not in one.added for one in others) for token in new)
    if words:
        notes.append(
            f"{words} of the added tokens are words of another parent's own vocabulary. The tokenizer finds added "
            "tokens before it cuts a text into words, so text with one of them is cut otherwise than the base cuts it"
        )
    return _matched("union", base, others, ids, new, notes)


def _foreign(base: Lexicon, others: Sequence[Lexicon]) -> dict[str, AddedToken]:
    """Tokens the base lacks, in the order of the parents and of their ids, with the flags the first parent gives."""
    from tokenizers import AddedToken

    new: dict[str, AddedToken] = {}
    for one in others:
        for token in sorted(one.tokens.keys() - base.tokens.keys(), key=lambda t: (one.tokens[t], t)):
            new.setdefault(token, one.added.get(token) or AddedToken(token))
    return new


def _matched(
    policy: str,
    base: Lexicon,
    others: Sequence[Lexicon],
    ids: Mapping[str, int],
    tokens: tuple[AddedToken, ...],
    notes: Sequence[str],
) -> Vocabulary:
    size = max(base.rows, *(row + 1 for row in ids.values()))
    rows = {one.parent.digest: _rows(one, ids, size) for one in (base, *others)}
    padding = torch.ones(size, dtype=torch.bool)
    padding[list(ids.values())] = False
    rows[base.parent.digest][padding] = torch.arange(size)[padding]
    lacking = [(one.parent.name, sum(token not in one.tokens for token in ids)) for one in others]
    told = [f"{name} lacks {n} of {len(ids)} tokens: rows of the base stand in" for name, n in lacking if n]
    return Vocabulary(policy, size, base.parent.digest, rows, tokens, (*notes, *told))


def _rows(one: Lexicon, ids: Mapping[str, int], size: int) -> torch.Tensor:
    """int64 (size,): the parent's row of every merged row's token, -1 where it has none."""
    rows = torch.full((size,), -1)
    held = [token for token in ids if token in one.tokens]
    rows[[ids[token] for token in held]] = torch.tensor([one.tokens[token] for token in held], dtype=torch.int64)
    return rows
