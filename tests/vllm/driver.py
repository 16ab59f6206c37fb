"""A driver that asks one question of an engine in a process of its own, writes the answer, and waits to be killed."""

from __future__ import annotations

import pickle
import sys
import time
from pathlib import Path

import torch

from evomerge.backends.vllm import VLLMBackend
from evomerge.models.family import open_family
from tests.vllm.models import BLENDS, merged, questions


def main(root: Path, out: Path) -> None:
    family = open_family([str(root / "a"), str(root / "b")], str(root / "base"))
    backend = VLLMBackend(max_length=400, processes=True, carrier="file")
    backend.open(family, torch.device("cpu"), "float32")
    backend.write(merged(family, BLENDS["ties"]))
    answers = (" ".join(backend.notes), backend.answer(questions()))
    out.with_suffix(".part").write_bytes(pickle.dumps(answers))
    out.with_suffix(".part").rename(out)
    time.sleep(600)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
