"""Banks of simulated answers, and what the tests of subsets ask of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from evomerge.config import CONF, make
from evomerge.families import Subset
from evomerge.items import Draw, ItemBank
from evomerge.types import Metric

SIZES = {"quiz": 120, "arith": 60, "names": 40}
ACCURACY = Metric("acc", True)


def answers(rng: np.random.Generator, models: int, items: int) -> np.ndarray:
    """Bits (models, items) of a two-parameter logistic world."""
    z = rng.normal(size=(models, 1)) * rng.lognormal(0, 0.4, items) - rng.normal(0, 1.3, items)
    return (rng.random((models, items)) < 1 / (1 + np.exp(-z))).astype(float)


def bank_of(
    sizes: Mapping[str, int] = SIZES, *, endpoints: int = 4, designs: int = 6, leaderboard: int = 60, seed: int = 0
) -> ItemBank:
    """Items of random weight, answered by models of all kinds."""
    rng = np.random.default_rng(seed)
    n, models = sum(sizes.values()), endpoints + designs + leaderboard
    task = np.repeat(np.arange(len(sizes)), list(sizes.values()))
    raw = rng.uniform(0.5, 2, n)
    bits = answers(rng, models, n)
    return ItemBank(
        tasks=tuple(sizes),
        metrics=(ACCURACY,) * len(sizes),
        items=tuple(rng.bytes(8).hex() for _ in range(n)),
        task=task,
        weights=raw / np.bincount(task, raw)[task],
        endpoints=bits[:endpoints],
        designs=bits[endpoints : endpoints + designs],
        leaderboard=bits[endpoints + designs :],
    )


def one_task(endpoints: Any, weights: Sequence[float] | None = None, metric: Metric = ACCURACY) -> ItemBank:
    """A task that endpoints (K, N) answered; items are named in their order."""
    rows = np.array(endpoints, dtype=float)
    n, nobody = rows.shape[1], np.zeros((0, rows.shape[1]))
    shares = np.full(n, 1 / n) if weights is None else np.array(weights)
    names = tuple(f"{i:04d}" for i in range(n))
    return ItemBank(("only",), (metric,), names, np.zeros(n, dtype=np.int64), shares, rows, nobody, nobody)


def shuffled(bank: ItemBank, seed: int = 5) -> ItemBank:
    """The same items in another order, of tasks in another order."""
    rng = np.random.default_rng(seed)
    order, tasks = rng.permutation(bank.size), rng.permutation(len(bank.tasks))
    return replace(
        bank,
        tasks=tuple(bank.tasks[t] for t in tasks),
        metrics=tuple(bank.metrics[t] for t in tasks),
        items=tuple(bank.items[i] for i in order),
        task=np.argsort(tasks)[bank.task[order]],
        weights=bank.weights[order],
        endpoints=bank.endpoints[:, order],
        designs=bank.designs[:, order],
        leaderboard=bank.leaderboard[:, order],
    )


def member(name: str, **settings: Any) -> Subset:
    """The subset of conf/subset/<name>.yaml, with some settings changed if it has them."""
    node = OmegaConf.to_container(OmegaConf.load(CONF / "subset" / f"{name}.yaml"))
    return make("subset", {**node, **{k: v for k, v in settings.items() if k in node}})


def named(bank: ItemBank, draw: Draw) -> list[tuple[str, str, float]]:
    """Task, item and weight, in the order of the draw."""
    return [(bank.tasks[bank.task[i]], bank.items[i], float(w)) for i, w in zip(draw.index, draw.weights, strict=True)]


def per_task(bank: ItemBank, index: np.ndarray) -> list[int]:
    return np.bincount(bank.task[index], minlength=len(bank.tasks)).tolist()
