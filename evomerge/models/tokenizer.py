"""The tokenizer in a checkpoint's folder: its tokens and ids, its digest, its chat template, and a union's on disk.

Tokenizers are read by transformers, as the live model reads them: files alone do not say which special tokens are
added on loading. Code in a checkpoint is never run.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evomerge.errors import ParentError
from evomerge.models.parent import Parent

if TYPE_CHECKING:
    from tokenizers import AddedToken

#: A folder with none of these has no tokenizer. tokenizer_config.json is none: it holds no token.
_VOCABULARIES = ("tokenizer.json", "*.model", "vocab.*", "tekken.json")
#: What a union takes over beside tokenizer.json, which holds the tokens themselves.
_SETTINGS = ("tokenizer_config.json", "special_tokens_map.json", "*.jinja")
_FLAGS = ("content", "lstrip", "normalized", "rstrip", "single_word", "special")


def load(folder: Path) -> Any | None:
    """The tokenizer as transformers loads it, None where the folder has none. Raises ParentError for a broken one."""
    from transformers import AutoTokenizer

    if not any(path for pattern in _VOCABULARIES for path in folder.glob(pattern)):
        return None
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as e:  # the Rust library raises bare Exceptions, broken JSON any kind
        raise ParentError(
            f"the tokenizer in {folder} cannot be read ({type(e).__name__}: {e}). Wanted one that transformers loads "
            "without running its code: download or save it again."
        ) from e


def read_vocabulary(folder: Path) -> dict[str, int] | None:
    """Token -> id, added tokens included; None without a tokenizer. Raises ParentError for a broken one."""
    tokenizer = load(folder)
    return None if tokenizer is None else dict(tokenizer.get_vocab())


def added_tokens(tokenizer: Any) -> dict[str, AddedToken]:
    """The tokens beside the tokenizer's model, by content: they carry flags (special, normalized, ...)."""
    return {token.content: token for token in tokenizer.added_tokens_decoder.values()}


def extend(folder: Path, tokens: Sequence[AddedToken]) -> Any:
    """The folder's tokenizer with more tokens; those it had keep their ids.

    Raises ParentError if there is no tokenizer or it cannot take more.
    """
    tokenizer: Any = load(folder)
    if getattr(tokenizer, "backend_tokenizer", None) is None:
        raise ParentError(f"{folder} has no tokenizer that tokens can be added to. Use parents.vocabulary=base.")
    before = set(tokenizer.get_vocab().values())
    tokenizer.add_tokens(list(tokens))
    after = tokenizer.get_vocab()
    if any(after.get(token.content) in before for token in tokens):  # ids are counted on, over gaps
        raise ParentError(f"the ids of {folder} have gaps, so new tokens would get ids in use. Use vocabulary=base.")
    return tokenizer


def save_tokenizer(base_folder: Path, folder: Path, tokens: Sequence[AddedToken]) -> None:
    """Write the base's tokenizer with `tokens` added: a new tokenizer.json, chat template and settings as they were.

    Raises ParentError if what was written does not load with the same ids.
    """
    tokenizer = extend(base_folder, tokens)
    tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
    for path in (p for pattern in _SETTINGS for p in base_folder.glob(pattern)):
        shutil.copyfile(path, folder / path.name)
    _list_added_tokens(folder / "tokenizer_config.json", tokenizer)
    if read_vocabulary(folder) != tokenizer.get_vocab():
        raise ParentError(f"the tokenizer of {base_folder} loses added tokens on saving. Use parents.vocabulary=base.")


def _list_added_tokens(config: Path, tokenizer: Any) -> None:
    """Where transformers 4 listed the added tokens in the settings: the list is believed, and has to be whole."""
    settings = json.loads(config.read_text(encoding="utf-8")) if config.is_file() else {}
    if "added_tokens_decoder" in settings:
        every = tokenizer.added_tokens_decoder.items()
        listed = {str(row): {flag: getattr(token, flag) for flag in _FLAGS} for row, token in every}
        config.write_text(json.dumps({**settings, "added_tokens_decoder": listed}, indent=2) + "\n", encoding="utf-8")


def read_chat_template(folder: Path) -> str | None:
    """The (default) chat template, from chat_template.jinja or, where that is missing, tokenizer_config.json."""
    jinja, config = folder / "chat_template.jinja", folder / "tokenizer_config.json"
    if jinja.is_file():
        return jinja.read_text(encoding="utf-8")
    try:
        template = json.loads(config.read_text(encoding="utf-8")).get("chat_template") if config.is_file() else None
    except ValueError as e:
        raise ParentError(f"{config} is not JSON ({e}). Download or save the tokenizer again.") from e
    if isinstance(template, list):  # several, by name
        template = {each["name"]: each["template"] for each in template}.get("default")
    return template


def chat_template_source(base: Parent, parents: Sequence[Parent]) -> tuple[Parent | None, str]:
    """Who lends the chat template: the base, or else the first parent that has one. The string is a note or empty."""
    templates = {p.name: (p, read_chat_template(p.folder)) for p in (base, *parents)}
    having = [(p, text) for p, text in templates.values() if text is not None]
    if not having:
        return None, ""
    lender, text = having[0]
    others = [p.name for p, other in having if other != text]
    if others:
        return lender, f"chat templates differ: {lender.name}'s is used, not that of {', '.join(others)}."
    return lender, "" if lender is base else f"{base.name} has no chat template: {lender.name}'s is used."


def tokenizer_digest(folder: Path) -> str:
    """16 hex digits over all that turns messages into ids: tokens, merges, normaliser, special tokens, chat template.

    Saving a tokenizer again leaves it as it is. "none" for a folder without a tokenizer.
    """
    tokenizer = load(folder)
    if tokenizer is None:
        return "none"
    facts = {
        "encoding": _encoding(tokenizer),
        "special": {name: str(token) for name, token in tokenizer.special_tokens_map.items()},
        "chat_template": tokenizer.chat_template,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def _encoding(tokenizer: Any) -> Mapping[str, Any]:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return {"class": type(tokenizer).__name__, "vocab": tokenizer.get_vocab()}
    every: dict[str, Any] = json.loads(backend.to_str())
    return {name: value for name, value in every.items() if name not in ("truncation", "padding")}  # set per call
