"""How survivors of a difference make up for the dropped entries: one factor per parent and tensor.

"none"; "inv_p" divides by the density, as DARE's paper does, which keeps the expectation of a random mask; "l1"
restores the difference's L1 norm, as mergekit does with `rescale: true`.
"""

from __future__ import annotations

from evomerge.errors import ConfigError, unknown

RESCALES = ("none", "l1", "inv_p")
#: Below this L1 norm, before or after, "l1" does nothing.
TINY = 1e-7


def fixed_factor(rescale: str, density: float) -> float:
    """Factor of the survivors where no data are needed. Raises ConfigError for a rescale that is not known."""
    if rescale not in RESCALES:
        raise ConfigError(unknown("rescale", rescale, RESCALES))
    return 1 / density if rescale == "inv_p" and 0 < density < 1 else 1.0


def l1_factor(before: float, after: float) -> float:
    """Ratio of the L1 norms of a whole tensor; 1 if either is below 1e-7."""
    return 1.0 if min(before, after) < TINY else before / after
