"""What every backend makes of lm-eval: answers that are no numbers, ways of sampling that are none, its chatter."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from evomerge.errors import MergeError, TaskError


def sound(answer: Any) -> Any:
    """The answer. Raises MergeError if its log-likelihood is NaN: most metrics would call that a wrong answer."""
    loglik = answer[0] if isinstance(answer, tuple) else answer
    if isinstance(loglik, float) and math.isnan(loglik):
        raise MergeError("the merged model answers with NaN: its weights are out of any useful range")
    return answer


def check_sampling(settings: Mapping[str, Any]) -> None:
    """Raises TaskError for sampling without a temperature, as transformers does; others would take one of their own."""
    if settings.get("do_sample") and not settings.get("temperature"):
        raise TaskError(
            f"a task's generation_kwargs have do_sample: true and temperature: {settings.get('temperature', 'none')}; "
            "wanted one above 0. Set temperature (1.0 leaves the model's probabilities as they are), or do_sample: "
            "false."
        )


@contextmanager
def errors_only() -> Iterator[None]:
    """lm-eval warns of every ready model; inside, it tells errors alone."""
    logger = logging.getLogger("lm_eval")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
