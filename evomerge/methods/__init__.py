"""Family of merge methods: float32 tensors in, one float32 tensor out.

METHODS is the only registry of the house: a method's name is written in recipes and journals, so it must mean
the same thing wherever it is read again. Every other family is chosen by its address in the config.
"""

from __future__ import annotations

from evomerge.errors import ConfigError, unknown
from evomerge.methods import dare, linear, passthrough, slerp, task_arithmetic, ties
from evomerge.types import Method

METHODS: dict[str, Method] = {
    "linear": linear.METHOD,
    "slerp": slerp.METHOD,
    "task_arithmetic": task_arithmetic.METHOD,
    "ties": ties.METHOD,
    "dare_linear": dare.DARE_LINEAR,
    "dare_ties": dare.DARE_TIES,
    "passthrough": passthrough.METHOD,
}


def get(name: str) -> Method:
    """The method of that name. Raises ConfigError with the known and the nearest names."""
    if name not in METHODS:
        raise ConfigError(unknown("method", name, METHODS))
    return METHODS[name]
