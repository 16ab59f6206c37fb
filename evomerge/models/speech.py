"""How a family speaks: the tokenizer and chat template of its merged models, in memory, on disk, and as a digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evomerge.models import tokenizer
from evomerge.models.family import Family


def live_tokenizer(family: Family) -> Any:
    """The base's tokenizer with a union's tokens, and the chat template of the first who has one."""
    added = family.vocabulary.tokens if family.vocabulary else ()
    found = tokenizer.extend(family.base_folder, added) if added else tokenizer.load(family.base_folder)
    lender, _ = _lender(family)
    if found is not None and found.chat_template is None and lender is not None:
        found.chat_template = tokenizer.read_chat_template(lender.folder)
    return found


def save(family: Family, folder: Path) -> None:
    """What the base's own files, copied before, do not say: a union's tokens, a chat template from another parent."""
    if family.vocabulary and family.vocabulary.tokens:
        tokenizer.save_tokenizer(family.base_folder, folder, family.vocabulary.tokens)
    lender, _ = _lender(family)
    if lender is not None and tokenizer.read_chat_template(folder) is None:
        (folder / "chat_template.jinja").write_text(str(tokenizer.read_chat_template(lender.folder)))


def digest(family: Family) -> str:
    """16 hex digits over all that turns messages into tokens of the merged models."""
    lender, _ = _lender(family)
    template = tokenizer.read_chat_template(lender.folder) if lender else None
    added = [str(token) for token in family.vocabulary.tokens] if family.vocabulary else []
    facts = [tokenizer.tokenizer_digest(family.base_folder), template, added]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def resized(config: Mapping[str, Any], family: Family) -> dict[str, Any]:
    """The config for the merged model's number of rows."""
    if family.vocabulary is None:
        return dict(config)
    nested = {"text_config": resized(config["text_config"], family)} if "text_config" in config else {}
    return {**config, **nested, **({"vocab_size": family.vocabulary.size} if "vocab_size" in config else {})}


def notes(family: Family) -> tuple[str, ...]:
    """What the user should know of vocabularies and chat templates."""
    _, templates = _lender(family)
    return (*(family.vocabulary.notes if family.vocabulary else ()), *([templates] if templates else []))


def _lender(family: Family) -> tuple[Any, str]:
    return tokenizer.chat_template_source(family.model, [p for p in family.checkpoints if p is not family.model])
