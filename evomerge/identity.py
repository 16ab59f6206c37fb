"""What makes two runs the same run: everything their rows depend on. Budget, executor and folder are free to change."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from omegaconf import DictConfig

from evomerge.calibration.key import essential
from evomerge.calibration.lookup import digest
from evomerge.config import plain
from evomerge.plan import Plan
from evomerge.spaces.references import unique

GROUPS = (
    "space",
    "optimizer",
    "control",
    "subset",
    "estimator",
    "race",
    "objective",
    "goals",
    "constraints",
)


def identity_of(cfg: DictConfig, family: Any, tasks: tuple[Any, ...], plan: Plan, dtype: str) -> dict[str, Any]:
    """As plain data, compared leaf by leaf when a run is continued."""
    import torch

    from evomerge.models import speech

    pool, device = family.pool(), plan.evaluator.device.type
    return {
        **{group: plain(cfg.get(group)) for group in GROUPS},
        "backend": essential(plain(cfg.backend), plan.evaluator.backend),
        "seed": cfg.seed,
        "finalists": cfg.finalists,
        "max_failed": cfg.max_failed,
        "parents": {"base": pool.base, "models": dict(zip(unique(pool.names), pool.digests, strict=True))},
        "vocabulary": {"policy": pool.vocabulary, "tokenizer": speech.digest(family)},
        "tasks": [t.identity() for t in tasks],
        "n_items": {split: {t: len(ids) for t, ids in items.items()} for split, items in plan.items.items()},
        "dtype": dtype,
        "device": device,
        # compiled loops have a CPU's bits, and on CUDA fuse a product and a sum into one rounding
        **({"compile": plain(cfg.merge.compile)} if device == "cuda" else {}),
        "threads": cfg.threads or torch.get_num_threads(),
        "calibration": {"designs": len(plan.known.designs), "leaderboard": digest(plan.known.leaderboard)},
        "warm_start": {"given": plain(cfg.warm_start), "recipes": [recipe.digest for recipe in plan.warm]},
        "metrics": {name: asdict(metric) for name, metric in plan.metrics.items()},
    }
