"""Family of merge methods: knobs and entries in, a kernel and its numbers out.

METHODS is the only registry of the house: a method's name is written in recipes and journals, so it must mean
the same thing wherever it is read again. Every other family is chosen by its address in the config.
"""

from __future__ import annotations

from evomerge.errors import ConfigError, unknown
from evomerge.methods import (
    arcee_fusion,
    breadcrumbs,
    dare,
    della,
    karcher,
    linear,
    model_stock,
    multislerp,
    nearswap,
    nuslerp,
    passthrough,
    ram,
    sce,
    slerp,
    task_arithmetic,
    ties,
)
from evomerge.types import Method

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        linear.METHOD,
        slerp.METHOD,
        nuslerp.METHOD,
        multislerp.METHOD,
        karcher.METHOD,
        model_stock.METHOD,
        task_arithmetic.METHOD,
        ties.METHOD,
        dare.DARE_LINEAR,
        dare.DARE_TIES,
        della.DELLA,
        della.DELLA_LINEAR,
        breadcrumbs.BREADCRUMBS,
        breadcrumbs.BREADCRUMBS_TIES,
        sce.METHOD,
        ram.RAM,
        ram.RAMPLUS_TL,
        nearswap.METHOD,
        arcee_fusion.METHOD,
        passthrough.METHOD,
    )
}


def get(name: str) -> Method:
    """The method of that name. Raises ConfigError with the known and the nearest names."""
    if name not in METHODS:
        raise ConfigError(unknown("method", name, METHODS))
    return METHODS[name]
