"""Memory and time of a candidate measured on generated models: bandwidths, builds, forward passes, held memory.

Seconds are CPU seconds of one thread, the least of some repeats; on a busy machine, where processes share caches and
memory, they are 1.5 to 1.9 times more.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.memory_traffic import recipe_of
from evomerge import build
from evomerge.config import ZOO
from evomerge.memory.jobs import job_of
from evomerge.memory.plan import Load, Machine, plan
from evomerge.models import blank
from evomerge.models.family import Family, open_family

METHODS = ("task_arithmetic", "ties", "dare_ties")
#: Size in words -> width and depth of a Llama with 8192 tokens.
SIZES = {"10M": (256, 8), "40M": (512, 10), "135M": (768, 17), "400M": (1024, 32)}
VOCABULARY, TOKENS, ROWS = 8192, 128, 8


def generate(folder: Path, size: str, n_parents: int = 2) -> list[Path]:
    """A base and parents near it, bfloat16, with a tokenizer that is not theirs."""
    hidden, layers = SIZES[size]
    heads = hidden // 64
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=hidden,
        intermediate_size=11 * hidden // 4,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        tie_word_embeddings=True,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder / "base")
        made = [folder / "base"]
        for file in (ZOO / "pico" / "base").glob("*token*"):
            shutil.copy(file, made[0])
        for k in range(n_parents):
            made.append(folder / f"parent{k}")
            config.save_pretrained(made[-1])
            tensors = load_file(made[0] / "model.safetensors")
            near = {n: (t + 0.002 * torch.randn_like(t)).contiguous() for n, t in tensors.items()}
            save_file(near, made[-1] / "model.safetensors", metadata={"format": "pt"})
    return made


def open_made(made: list[Path]) -> Family:
    return open_family([str(p) for p in made[1:]], str(made[0]))


# ---------------------------------------------------------------- time


def cpu_seconds(work: Callable[[], Any], repeats: int = 3) -> float:
    """The least CPU time of some runs."""
    found = []
    for _ in range(repeats):
        began = time.process_time()
        work()
        found.append(time.process_time() - began)
    return min(found)


def copying() -> float:
    """Bytes a second of a copy, those read and those written both counted."""
    source = torch.ones(2**26)
    target = torch.empty_like(source)
    return 2 * source.nbytes / cpu_seconds(lambda: target.copy_(source), 6)


def reading(path: Path, *, cold: bool) -> float:
    """Bytes a wall second of touching a mapped file, from the page cache or, `cold`, from the disk."""
    fd = os.open(path, os.O_RDONLY)
    if cold:
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    began = time.perf_counter()
    with safe_open(path, framework="pt") as f:
        for name in list(f.keys()):
            f.get_tensor(name).view(torch.int16).max()
    seconds = time.perf_counter() - began
    os.close(fd)
    return path.stat().st_size / seconds


@dataclass(frozen=True)
class Built:
    """CPU seconds of a build, its parents mapped and kept."""

    method: str
    n_parents: int
    seconds: float


def builds(family: Family, targets: dict[str, torch.Tensor], counts: tuple[int, ...], repeats: int) -> Iterator[Built]:
    """By method and number of parents, after one that reads the files and touches the targets."""
    build.write(recipe_of(family, METHODS[0], 2), family, targets)
    for method in METHODS:
        for n in counts:
            recipe = recipe_of(family, method, n)
            yield Built(method, n, cpu_seconds(lambda r=recipe: build.write(r, family, targets), repeats))


def flops(model: Any) -> tuple[float, float]:
    """Tokens and floating-point operations a CPU second: two for each weight that a token meets."""
    ids = torch.randint(0, VOCABULARY, (ROWS, TOKENS), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        seconds = cpu_seconds(lambda: model(ids, use_cache=False), 2)
    weights = sum(p.numel() for p in model.parameters())  # the tied matrix is used as the head
    tokens = ids.numel() / seconds
    return tokens, 2 * weights * tokens


# ---------------------------------------------------------------- memory


@dataclass(frozen=True)
class Held:
    """Bytes of a process's own at the highest point: files that are mapped are not its own."""

    opening: int
    writing: int
    planned: int


def held(made: list[Path]) -> Held:
    """Opening the live model and writing a TIES candidate; to be asked in a process of its own."""
    family = open_made(made)
    with peak() as opening:
        model, _ = blank.live_model(made[0], torch.device("cpu"), "bfloat16")
    recipe = recipe_of(family, "ties", len(family.parents))
    targets = blank.targets(model, family.shapes)
    with peak() as writing:
        build.write(recipe, family, targets)
    planned = plan(
        job_of(family, recipe=recipe, dtype="bfloat16", load=Load(1, 1)), Machine(2**50, 2**50, unified=True)
    )
    return Held(opening(), opening() + writing(), planned.live + planned.learned + planned.tables + planned.building)


@contextmanager
def peak() -> Iterator[Callable[[], int]]:
    """What the process's own memory grew by at the highest point between entering and leaving."""
    done, before = threading.Event(), _own()
    seen = [before]

    def watch() -> None:
        while not done.wait(0.002):
            seen.append(max(seen[-1], _own()))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield lambda: seen[-1] - before
    finally:
        done.set()
        thread.join()
        seen.append(max(seen[-1], _own()))


def _own() -> int:
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("Anonymous:"))
