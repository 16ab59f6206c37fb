"""Calls into lm-eval and datasets leave no trace: no log lines, no progress bars, global random states put back."""

from __future__ import annotations

import logging
import random
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout

import numpy as np


@contextmanager
def quiet() -> Iterator[None]:
    """Within: lm-eval logs errors only, prints go to stderr, no bars. Afterwards all is as it was before.

    The global generators start from the seeds of lm_eval.simple_evaluate: some tasks shuffle their choices,
    some sample their answers, and both must come out the same in every process.
    """
    with ExitStack() as stack:
        stack.enter_context(redirect_stdout(sys.stderr))
        for guard in (_errors_only, _no_bars, _same_random):
            stack.enter_context(guard())
        yield


@contextmanager
def _errors_only() -> Iterator[None]:
    logger = logging.getLogger("lm_eval")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


@contextmanager
def _no_bars() -> Iterator[None]:
    import datasets

    shown = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()


@contextmanager
def _same_random() -> Iterator[None]:
    import torch

    # cuda is seeded only once it is up: torch.manual_seed would leave a seed waiting for its start
    cuda = torch.cuda.is_initialized()
    before = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=range(torch.cuda.device_count()) if cuda else ()):
            random.seed(0)
            np.random.seed(1234)
            torch.default_generator.manual_seed(1234)
            if cuda:
                torch.cuda.manual_seed_all(1234)
            yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
