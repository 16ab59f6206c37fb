"""Candidates built by mergekit 0.1.5, run with the Python it is installed in: a job from stdin, a line for each YAML.

The job is JSON: threads, yamls, scratch (a folder), enough (seconds after which nothing is repeated). A line is JSON:
memory and disk, each [seconds on the clock, processor seconds]: planning, executing and copying into live tensors; and
`run_merge` into a folder, read again. Both from files that the system holds in memory.
"""

from __future__ import annotations

import json
import logging
import shutil
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
import yaml
from mergekit.architecture import get_architecture_info
from mergekit.config import MergeConfiguration
from mergekit.graph import Executor
from mergekit.io.tasks import LoaderCache, ReturnTensor
from mergekit.merge import _model_out_config, run_merge
from mergekit.options import MergeOptions
from mergekit.plan import MergePlanner
from safetensors.torch import load_file

OPTIONS = MergeOptions(copy_tokenizer=False, write_model_card=False, quiet=True, random_seed=7)
REPEATS = 3


def main() -> None:
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    transformers.utils.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    job = json.load(sys.stdin)
    torch.set_num_threads(job["threads"])
    LoaderCache().setup(options=OPTIONS)
    for path in job["yamls"]:
        found = measured(yaml.safe_load(Path(path).read_text()), Path(job["scratch"]) / "merged", job["enough"])
        print(json.dumps(found), flush=True)


def measured(text: dict[str, Any], out: Path, enough: float) -> dict[str, list[float]]:
    config = MergeConfiguration.model_validate(text)
    architecture = get_architecture_info(config, OPTIONS)
    shape = (architecture, _model_out_config(config, architecture))
    live: dict[str, torch.Tensor] = {}
    in_memory(text, shape, live)  # the live model is allocated, and the files are read
    found = {
        "memory": timed(lambda: in_memory(text, shape, live), enough),
        "disk": timed(lambda: to_disk(text, out, live), enough),
    }
    shutil.rmtree(out)
    return found


def in_memory(text: dict[str, Any], shape: tuple[Any, Any], live: dict[str, torch.Tensor]) -> None:
    """As mergekit-evolve's in-memory evaluator does it. shape: architecture, and config of the merged model."""
    planner = MergePlanner(MergeConfiguration.model_validate(text), shape[0], OPTIONS, shape[1])
    for task, value in Executor(targets(planner), math_device="cpu", storage_device="cpu").run(quiet=True):
        name = task.weight_info.name
        live[name] = live.get(name, torch.empty_like(value)).copy_(value)


def targets(planner: MergePlanner) -> list[Any]:
    """plan_in_memory; newer pydantics cannot validate its tasks, which are then made without being validated."""
    try:
        return list(planner.plan_in_memory())
    except TypeError:  # after planning
        dtype = planner.config.out_dtype
        return [
            ReturnTensor.model_construct(weight_info=weight, tensor_task=task, dtype=weight.force_dtype or dtype)
            for weight, task in planner._tensors
        ]


def to_disk(text: dict[str, Any], out: Path, live: dict[str, torch.Tensor]) -> None:
    run_merge(MergeConfiguration.model_validate(text), str(out), OPTIONS)
    for file in out.glob("*.safetensors"):
        for name, tensor in load_file(file).items():
            live[name].copy_(tensor)


def timed(work: Callable[[], None], enough: float) -> list[float]:
    """[seconds, processor seconds], medians."""
    found: list[tuple[float, float]] = []
    while len(found) < REPEATS and sum(s for s, _ in found) < enough:
        began, cpu = time.perf_counter(), time.process_time()
        work()
        found.append((time.perf_counter() - began, time.process_time() - cpu))
    return [statistics.median(column) for column in zip(*found, strict=True)]


if __name__ == "__main__":
    main()
