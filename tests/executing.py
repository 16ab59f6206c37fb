"""Works put through an executor, as the loop does it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from evomerge.families import Executor
from evomerge.types import Evaluation, Work


def evaluations(
    executor: Executor,
    evaluator: Any,
    works: Iterable[Work],
    record: Callable[..., None] = lambda kind, **facts: None,
) -> Iterator[Evaluation]:
    """Every rung, until the last of all works is in."""
    works = list(works)
    executor.start(evaluator, record)
    executor.submit(works)
    out = len(works)
    while out:
        row = executor.next()
        out -= row.last
        yield row
