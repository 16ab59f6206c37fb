"""Tiny checkpoints with real tokenizers, whose embedding rows say whose they are and which token they stand for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from zlib import crc32

import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from evomerge.models.parent import Parent, open_parent

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
PADDING = -1.0


def words(names: Sequence[str], added: Sequence[AddedToken | str] = ()) -> PreTrainedTokenizerFast:
    """A word-level tokenizer: the names get ids from 0, then come the added tokens."""
    model = models.WordLevel({"<unk>": 0, **{name: i + 1 for i, name in enumerate(names)}}, unk_token="<unk>")
    return _fast(Tokenizer(model), pre_tokenizers.Whitespace(), added)


def pieces(merges: Sequence[tuple[str, str]], added: Sequence[AddedToken | str] = ()) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer over letters and the space."""
    alphabet = [*"abcdefghijklmnopqrstuvwxyz", "Ġ"]
    vocab = {token: i for i, token in enumerate([*alphabet, *(a + b for a, b in merges)])}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=list(merges)))
    tokenizer.decoder = decoders.ByteLevel()
    return _fast(tokenizer, pre_tokenizers.ByteLevel(add_prefix_space=False), added)


def _fast(tokenizer: Tokenizer, cut, added: Sequence[AddedToken | str]) -> PreTrainedTokenizerFast:
    tokenizer.pre_tokenizer = cut
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    fast.add_tokens(list(added))
    return fast


def special(name: str) -> AddedToken:
    return AddedToken(name, special=True)


def speaker(
    folder: Path,
    tokenizer: PreTrainedTokenizerFast | None,
    mark: float,
    *,
    rows: int | None = None,
    dtype: torch.dtype = torch.float32,
    more: Mapping[str, torch.Tensor] | None = None,
) -> Parent:
    """A checkpoint whose embedding row is (mark, code of the token, row), and its head's the same negated."""
    folder.mkdir(parents=True)
    vocabulary = tokenizer.get_vocab() if tokenizer else {}
    size = rows if rows is not None else max(vocabulary.values()) + 1
    embedding = torch.tensor([[mark, PADDING, row] for row in range(size)])
    for token, row in vocabulary.items():
        if row < size:
            embedding[row, 1] = code(token)
    tensors = {EMBEDDING: embedding.to(dtype), HEAD: -embedding.to(dtype), "model.norm.weight": torch.ones(size)}
    save_file({**tensors, **(more or {})}, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "architectures": ["LlamaForCausalLM"]}))
    if tokenizer:
        tokenizer.save_pretrained(folder)
    return open_parent(str(folder))


def code(token: str) -> float:
    """A number that tells tokens apart and that float32 holds exactly."""
    return float(crc32(token.encode()) >> 10)


def ids(parent: Parent) -> dict[str, int]:
    return AutoTokenizer.from_pretrained(parent.folder).get_vocab()


def reader(parents: Sequence[Parent], name: str = EMBEDDING):
    by_digest = {p.digest: p for p in parents}
    return lambda digest: by_digest[digest].read(name)
