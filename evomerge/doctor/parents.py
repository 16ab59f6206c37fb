"""Who the parents are: content, size, shape and words of each, and what is not on this machine yet."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from evomerge.doctor.findings import Finding, note, ok, problem
from evomerge.memory.jobs import folder_bytes
from evomerge.memory.words import gb
from evomerge.models.family import bytes_of, checkpoint_dtype
from evomerge.models.parent import FILES, Parent
from evomerge.models.tokenizer import read_vocabulary


def identities(family: Any) -> Iterator[Finding]:
    """One line for each checkpoint and adapter, then what they share."""
    for one in family.all:
        role = "base" if one is family.base else "parent"
        yield ok(role, f"{one.name}: {_facts(one, family)}; content {one.digest}")
    model = family.model
    stacks = ", ".join(f"{n} blocks in {stack}" for stack, n in family.stacks.items())
    kind = " ".join(model.config.get("architectures") or [str(model.config.get("model_type"))])
    n = sum(map(math.prod, family.shapes.values()))
    yield ok("shapes", f"{kind}, {stacks}, {len(family.shapes)} tensors of {n:,} entries; the same for all")
    if family.base is None:
        yield note("base", "none given: methods on differences (ties, dare, task_arithmetic) need parents.base")


def _facts(one: Any, family: Any) -> str:
    if isinstance(one, Parent):
        return f"{checkpoint_dtype(one)}, {gb(bytes_of(one))}"
    trained = one.config.get("base_model_name_or_path") if hasattr(one, "config") else None
    on = f", trained on {trained}, applied to {family.base.name}" if trained else ""
    return f"adapter, {gb(folder_bytes(one))}{on}"


# ---------------------------------------------------------------- vocabulary


def vocabularies(family: Any) -> Finding:
    """Whether all checkpoints mean the same by a token id; scores are made with the base's tokenizer."""
    known = {p.name: read_vocabulary(p.folder) for p in family.checkpoints}
    without = [name for name, words in known.items() if words is None]
    if without:
        return note(
            "tokenizer", f"no tokenizer that can be compared in {', '.join(without)}: {family.model.name}'s is used"
        )
    own = known[family.model.name]
    odd = [name for name, words in known.items() if words != own]
    policy = getattr(family, "policy", "equal")
    if odd:
        return note(
            "tokenizer",
            f"the token ids of {', '.join(odd)} differ from those of {family.model.name}, whose tokenizer is used "
            f"(policy '{policy}'). Blending embeddings mixes words: see parents.vocabulary.",
        )
    shared = f"the same token ids in all {len(known)} checkpoints" if len(known) > 1 else f"{family.model.name}'s"
    return ok("tokenizer", shared)


# ---------------------------------------------------------------- hub


def absent(names: list[str]) -> list[str]:
    """Hub ids among the names whose files are not in the hub's cache."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    missing = []
    for name in names:
        repository, _, revision = name.partition("@")
        if Path(name).expanduser().exists() or repository.count("/") != 1 or name.startswith((".", "/", "~")):
            continue
        try:
            snapshot_download(repository, revision=revision or None, local_files_only=True, allow_patterns=list(FILES))
        except (LocalEntryNotFoundError, HFValidationError):
            missing.append(name)
    return missing


def download(name: str) -> Finding:
    """What fetching a hub id would take: told, not done."""
    from huggingface_hub.constants import HF_HUB_CACHE

    size = download_bytes(name)
    free = shutil.disk_usage(_existing(Path(HF_HUB_CACHE))).free
    asked = "of unknown size: the hub did not answer" if size is None else gb(size)
    words = f"{name} is not on this machine: a download ({asked}; {gb(free)} free in {HF_HUB_CACHE})"
    remedy = f"Fetch it first: hf download {name.partition('@')[0]}"
    enough = size is None or size <= free
    return problem("download", f"{words}. {remedy}" if enough else f"{words}. Make room or set HF_HOME. {remedy}")


def download_bytes(name: str) -> int | None:
    """Bytes of a repository's safetensors; None if the hub does not say (offline, gated, unknown)."""
    from huggingface_hub import HfApi

    repository, _, revision = name.partition("@")
    try:
        info = HfApi().model_info(repository, revision=revision or None, files_metadata=True, timeout=10)
    except Exception:  # the hub client raises many kinds, and opening the parent will tell which
        return None
    return sum(f.size or 0 for f in info.siblings or [] if f.rfilename.endswith(".safetensors"))


def _existing(folder: Path) -> Path:
    return next(p for p in (folder, *folder.resolve().parents) if p.exists())


def disk(folder: Path, wanted: int) -> Finding:
    """Room for an export beside the run."""
    free = shutil.disk_usage(_existing(folder)).free
    words = f"an export takes {gb(wanted)}; {gb(free)} free where the run is written"
    return ok("disk", words) if wanted <= free else note("disk", f"{words}. Export to another disk, or make room.")
