"""Seconds and tokens that one candidate costs: evomerge's evaluator beside lm_eval.simple_evaluate, on one live model.

    python scripts/bench_eval.py --quick                                          # the embedded zoo, under two minutes
    python scripts/bench_eval.py --model DIR --include-path DIR --tasks a,b --items 20 --json rows.json

Each task is asked with no examples, with --shots of them as lm-eval draws them (others for every document), and with
the same for all (first_n). A candidate of ours is a write and a score; of lm-eval it is one call of simple_evaluate,
with the TaskManager kept and the weights left as they are. Both are asked the same documents; the median of --repeats
candidates counts, after one that is not counted: it makes our requests and tokens.

A row of the JSON: setting, items, ours_seconds and lmeval_seconds (a candidate), ours_model_seconds and
lmeval_model_seconds (of these, inside the model: forward or generate), ours_tokens and lmeval_tokens (that the model
read, padding included), write_seconds, overhead_share (of our candidate: outside model and write), and
largest_difference between our answers and those of lm-eval's own loop to the same requests: of two log-likelihoods,
or for generated text the share of answers that differ.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import lm_eval
import torch
import yaml
from benchmarks.clock import Clock, typical
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from rich.console import Console
from rich.table import Table

from evomerge.backends.hf import HFBackend
from evomerge.families import Request
from evomerge.models.blank import pick_device
from evomerge.models.family import open_family
from evomerge.spaces.references import references
from evomerge.tasks.harness import HarnessTask, load
from evomerge.tasks.quiet import quiet
from evomerge.tasks.splits import item_id
from evomerge.types import Recipe

ZOO = Path(__file__).resolve().parent.parent / "evomerge" / "zoo" / "pico"


@dataclass(frozen=True)
class Row:
    """One setting's figures; the module tells what they mean."""

    setting: str
    items: int
    ours_seconds: float
    lmeval_seconds: float
    ours_model_seconds: float
    lmeval_model_seconds: float
    write_seconds: float
    ours_tokens: int
    lmeval_tokens: int
    overhead_share: float
    largest_difference: float


def main() -> None:
    asked = options()
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    torch.set_num_threads(asked.threads)
    found = [row for name in asked.tasks.split(",") for row in measure(name, asked)]
    print_table(found)
    if asked.json:
        asked.json.write_text(json.dumps([asdict(row) for row in found], indent=1) + "\n")


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", type=Path, default=ZOO / "base", help="folder of a model")
    parser.add_argument("--include-path", type=Path, default=ZOO / "tasks", help="folder of the tasks' YAML files")
    parser.add_argument("--tasks", default="pico_add,pico_rev", help="names, with commas between them")
    parser.add_argument("--items", type=int, default=100, help="documents of each task")
    parser.add_argument("--shots", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--max-length", type=int, default=None)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="32 documents, one candidate")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    if asked.quick:
        asked.items, asked.repeats = 32, 1
    return asked


# ---------------------------------------------------------------- settings


def variants(name: str, shots: int) -> dict[str, dict[str, Any]]:
    """What is set in a task's YAML, by the setting's name."""
    return {
        f"{name} 0-shot": {"num_fewshot": 0},
        f"{name} {shots}-shot": {"num_fewshot": shots},
        f"{name} {shots}-shot, same for all": {"num_fewshot": shots, "fewshot_config": {"sampler": "first_n"}},
    }


def measure(name: str, asked: argparse.Namespace) -> Iterator[Row]:
    backend, recipe = opened(asked)
    for setting, changes in variants(name, asked.shots).items():
        with tempfile.TemporaryDirectory() as folder:
            variant = {"include": str((asked.include_path / f"{name}.yaml").resolve()), "task": "variant", **changes}
            (Path(folder) / "variant.yaml").write_text(yaml.safe_dump(variant))
            yield row(setting, folder, backend, recipe, asked)


def opened(asked: argparse.Namespace) -> tuple[HFBackend, Recipe]:
    """A live backend, and the recipe of the model itself: to write it costs what any one parent costs."""
    family = open_family([str(asked.model)], str(asked.model))
    backend = HFBackend(batch_size=asked.batch_size, max_length=asked.max_length)
    with quiet():
        backend.open(family, pick_device(asked.device), asked.dtype)
    return backend, references(family.pool(), seed=0, dtype=asked.dtype)["base"]


def row(setting: str, folder: str, backend: HFBackend, recipe: Recipe, asked: argparse.Namespace) -> Row:
    (task,) = load(["variant"], folder)
    manager = TaskManager(include_path=folder, include_defaults=False)
    places = documents(task, manager, asked.items)
    items = list(places)
    clock = Clock(backend)
    ours = [clock.cost(lambda: candidate(task, backend, recipe, items, clock)) for _ in range(asked.repeats + 1)][1:]
    lm = HFLM(backend.lm.model, tokenizer=backend.tokenizer, batch_size=asked.batch_size, max_length=asked.max_length)
    theirs = [clock.cost(lambda: simple(lm, manager, list(places.values()))) for _ in range(asked.repeats)]
    clock.stop()
    mine, other = typical(ours), typical(theirs)
    return Row(
        setting=setting,
        items=len(items),
        ours_seconds=mine.seconds,
        lmeval_seconds=other.seconds,
        ours_model_seconds=mine.model,
        lmeval_model_seconds=other.model,
        write_seconds=mine.write,
        ours_tokens=mine.tokens,
        lmeval_tokens=other.tokens,
        overhead_share=(mine.seconds - mine.model - mine.write) / mine.seconds,
        largest_difference=difference(backend, requests_of(task, backend, items)),
    )


def documents(task: HarnessTask, manager: TaskManager, n: int) -> dict[str, int]:
    """Place of a document in lm-eval's test split by its item: the first n that both ask."""
    with quiet():
        docs = manager.load(["variant"])["tasks"]["variant"].eval_docs
    own = set(task.items["test"])
    places: dict[str, int] = {}
    for place, doc in enumerate(docs):
        if (item := item_id(doc)) in own and len(places) < n:
            places.setdefault(item, place)
    return places


# ---------------------------------------------------------------- candidates


def candidate(task: HarnessTask, backend: HFBackend, recipe: Recipe, items: Sequence[str], clock: Clock) -> None:
    start = time.perf_counter()
    backend.write(recipe)
    clock.write = time.perf_counter() - start
    task.score(backend, items)


def simple(lm: HFLM, manager: TaskManager, places: list[int]) -> None:
    with quiet(), open(os.devnull, "w") as nothing, redirected(nothing):
        lm_eval.simple_evaluate(
            model=lm,
            tasks=["variant"],
            task_manager=manager,
            samples={"variant": places},
            bootstrap_iters=0,
            log_samples=False,
        )


@contextmanager
def redirected(to: Any) -> Iterator[None]:
    """simple_evaluate draws bars on stderr, and git complains there."""
    kept = os.dup(2)
    os.dup2(to.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


# ---------------------------------------------------------------- answers


def requests_of(task: HarnessTask, backend: HFBackend, items: Sequence[str]) -> list[Request]:
    heard: list[Request] = []

    class Listener:
        batch_size = 1
        apply_chat_template = backend.apply_chat_template

        def answer(self, requests: Sequence[Request]) -> list[Any]:
            heard.extend(requests)
            return backend.answer(requests)

    task.score(Listener(), items)  # type: ignore[arg-type]  # it is never opened or written
    return heard


def difference(backend: HFBackend, requests: Sequence[Request]) -> float:
    ours = backend.answer(requests)
    plain = HFBackend(batch_size=backend.batch_size, max_length=backend.max_length, share_prefix=False)
    theirs = plain.wrap(backend.lm.model, backend.tokenizer).answer(requests)
    if isinstance(ours[0], str):
        return float(sum(a != b for a, b in zip(ours, theirs, strict=True)) / len(ours))
    return float(max(abs(a[0] - b[0]) for a, b in zip(ours, theirs, strict=True)))


def print_table(found: Sequence[Row]) -> None:
    table = Table(title="a candidate: ours / lm-eval")
    for head in ("setting", "seconds", "in the model", "tokens read", "fewer", "overhead", "difference"):
        table.add_column(head, justify="left" if head == "setting" else "right")
    for r in found:
        table.add_row(
            r.setting,
            f"{r.ours_seconds:.2f} / {r.lmeval_seconds:.2f}",
            f"{r.ours_model_seconds:.2f} / {r.lmeval_model_seconds:.2f}",
            f"{r.ours_tokens} / {r.lmeval_tokens}",
            f"{r.lmeval_tokens / r.ours_tokens:.1f}x",
            f"{r.overhead_share:.1%}",
            f"{r.largest_difference:.2g}",
        )
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
