"""What the user of a mergekit-evolve file should know: what is taken over, changed, ignored and mended."""

from __future__ import annotations

from collections.abc import Iterator

from evomerge.mergekit_evolve.file import LESS_IS_BETTER, ON_DELTAS, File, TaskLine

_OPTIONS = (
    "ignored: options of its command line are settings here: --max-fevals is budget.evaluations (100, as there), "
    "--task-search-path task.include_path, --batch-size backend.batch_size, --random-seed seed, --timeout "
    "budget.seconds, --force-population-size optimizer.population, --storage-path run"
)
_RESUME = "mended: the same command again goes on where a stopped run was; mergekit-evolve begins anew"
_SEED = (
    "mended: seed decides the whole run; --random-seed never reaches mergekit-evolve's CMA-ES, which takes the clock"
)
_FAILED = "mended: a candidate that fails is told as a bad one; in mergekit-evolve its missing score ends the run"
_SPLITS = (
    "mended: candidates are scored on validation items where a task has them, the winner is picked on other items and "
    "reported on test items; mergekit-evolve searches on the split lm-eval reports and holds nothing back"
)


def notes(file: File) -> list[str]:
    """One sentence each, those that concern every file last."""
    own = [*_genome(file), *_method(file), *_sampling(file)]
    return [_taken(file), *own, *(n for t in file.tasks for n in _task(t)), _OPTIONS, _RESUME, _SEED, _FAILED, _SPLITS]


def _taken(file: File) -> str:
    return (
        f"taken over: the genome of {file.method} over {len(file.models)} models, decoded as mergekit-evolve decodes "
        f"it, and {len(file.tasks)} task(s) with metrics, weights, examples and chat template; the merge is computed "
        "in float32 and cast to bfloat16 once"
    )


def _genome(file: File) -> Iterator[str]:
    if file.method != "slerp" and not file.genome.get("allow_negative_weights"):
        yield (
            "mended: weights are bounded from below at 0; mergekit-evolve's have no bounds and count by their absolute "
            "value, so that every optimum has mirror images"
        )
    if file.method in ("ties", "dare_ties"):
        yield (
            "mended: densities have the bounds 0 and 1; mergekit-evolve's start at 1 and are clipped there, so that "
            "half of the first samples drop nothing"
        )
    if file.scale_cancels:
        yield (
            "changed: the control is a random draw, since a common scale of all weights would change nothing: they are "
            "normalised, or scores of slerp"
        )


def _method(file: File) -> Iterator[str]:
    if file.method == "slerp":
        yield (
            "mended: slerp's scores lie between 0 and 4, which takes t from 0.5 down to 0.018; in mergekit-evolve, "
            "whose scores start within 0 and 1, it first lies between 0.27 and 0.5"
        )
    if file.method == "dare_ties":
        yield (
            "mended: random masks are the same for every candidate and nested in density; mergekit-evolve draws them "
            "from one global stream, unseeded with --in-memory"
        )
    if file.method == "linear" and file.normalized:
        yield "mended: weights that sum to zero mean the plain average; in mergekit-evolve they give NaN"
    inside = file.base in file.models
    if file.base is not None and file.method in ON_DELTAS and inside:
        yield "mended: the base among the models has no genes; mergekit-evolve searches some that nothing reads"
    if file.base is not None and file.method not in ON_DELTAS and not inside:
        yield f"mended: a base_model outside models is measured as a reference; mergekit refuses it for {file.method}"


def _sampling(file: File) -> Iterator[str]:
    limit = file.rest.get("limit")
    if limit is not None:
        yield (
            f"mended: limit {limit} means {limit} items a task on average, drawn by seed; mergekit-evolve takes the "
            f"first {limit} documents"
        )
    if file.rest.get("shuffle"):
        yield "mended: items are drawn by seed; shuffle in mergekit-evolve orders them anew in each process, unseeded"
    if file.rest.get("random_init"):
        yield (
            "ignored: random_init, since the search starts at the best of base, parents and average that the genome "
            "can say, else at equal weights"
        )
    if "apply_chat_template" not in file.rest:
        yield (
            "taken over: the chat template is applied, as mergekit-evolve does if its file does not say; for models "
            "without one set task.apply_chat_template=false"
        )


def _task(task: TaskLine) -> Iterator[str]:
    if task.filter != "none":
        yield (
            f"ignored: the filter '{task.filter}' of {task.name}'s metric; items are scored after the task's first "
            "filter"
        )
    if task.metric in LESS_IS_BETTER:
        how = (
            "in mergekit-evolve a positive weight maximises it" if task.weight > 0 else "the sign of its weight is gone"
        )
        yield f"mended: less {task.metric} is better for {task.name}, whatever the sign of its weight; {how}"
