"""What every backend makes of lm-eval: answers that are no numbers, and its chatter."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from evomerge.errors import MergeError


def sound(answer: Any) -> Any:
    """The answer. Raises MergeError if its log-likelihood is NaN: most metrics would call that a wrong answer."""
    loglik = answer[0] if isinstance(answer, tuple) else answer
    if isinstance(loglik, float) and math.isnan(loglik):
        raise MergeError("the merged model answers with NaN: its weights are out of any useful range")
    return answer


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
