"""The self-test: does this machine build and score as it should? Steps from cheap to dear, each timed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from evomerge import preparation
from evomerge.doctor import live_steps, steps
from evomerge.doctor.checks import Examination, memory_plan
from evomerge.doctor.findings import Findings
from evomerge.errors import ConfigError
from evomerge.memory.plan import Plan as MemoryPlan
from evomerge.models.blank import pick_device
from evomerge.plan import Plan

Step = Callable[[], Mapping[str, Any]]
Tell = Callable[[str], None]


def selftest(cfg: Any, tell: Tell = lambda line: None) -> dict[str, Any]:
    """All steps on the device, parents and tasks of these settings; plain data with `passed` and the steps.

    A failed step does not end the test; only if the settings make no search are the steps on a model left out.
    Raises ConfigError for a device this machine lacks, and for other backends, which test themselves when opened.
    """
    if not str(cfg.backend["_target_"]).endswith(".HFBackend"):
        raise ConfigError("the self-test tries a machine out with backend=hf. Leave the backend out.")
    device = pick_device(cfg.device)
    results = [
        attempt("device", partial(steps.device_facts, device), tell),
        attempt("masks", partial(steps.masks, device), tell),
        attempt("slices", partial(steps.slices, device), tell),
        attempt("methods", partial(steps.methods, device), tell),
        attempt("compiled", partial(steps.compiled, device), tell),
    ]
    made: list[tuple[Plan, MemoryPlan]] = []
    results.append(attempt("settings", partial(_settings, cfg, made), tell))
    if made:
        results += [attempt(name, step, tell) for name, step in _live(*made[0], results[0]["figures"])]
    return {"passed": all(r["passed"] for r in results), "steps": results}


def _settings(cfg: Any, made: list[tuple[Plan, MemoryPlan]]) -> dict[str, Any]:
    """Make the search and its memory plan, and leave them in `made`."""
    prepared = preparation.prepare(cfg, Path(str(cfg.run)))
    evaluator = prepared.plan.evaluator
    planned = memory_plan(cfg, Examination(Findings(), prepared, evaluator.family, evaluator.tasks), None)
    made.append((prepared.plan, planned))
    return {"parents": [p.digest for p in evaluator.family.all], "dtype": evaluator.dtype}


def _live(plan: Plan, planned: MemoryPlan, facts: Mapping[str, Any]) -> list[tuple[str, Step]]:
    alone: dict[str, live_steps.Alone] = {}
    return [
        ("parent_alone", partial(live_steps.parent_alone, plan, alone)),  # gone before the live model is opened
        ("memory", partial(live_steps.memory, plan, planned)),  # opens the live model for those below
        ("write_back", partial(live_steps.write_back, plan, alone)),
        ("batch_noise", partial(live_steps.batch_noise, plan)),
        ("speed", partial(live_steps.speed, plan, planned, facts)),
    ]


def attempt(name: str, step: Step, tell: Tell = lambda line: None) -> dict[str, Any]:
    """One step: its name, whether it passed, its seconds and figures, and why it failed."""
    tell(f"{name} ...")
    began = time.perf_counter()
    error: str | None = None
    figures: Mapping[str, Any] = {}
    try:
        figures = step()
    except steps.StepFailed as e:
        error, figures = str(e), e.figures
    except Exception as e:  # whatever the machine's libraries raise: the steps after it are worth their figures
        error = f"{type(e).__name__}: {e}"
    seconds = round(time.perf_counter() - began, 3)
    tell(f"{name}: {'passed' if error is None else 'FAILED: ' + error} ({seconds:.1f} s)")
    return {"step": name, "passed": error is None, "seconds": seconds, "figures": dict(figures), "error": error}
