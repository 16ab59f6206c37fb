"""gmp-IRT: mp-IRT and the weighted mean in fixed shares (MERGE^3, Mencattini et al. 2025, arXiv:2502.10436)."""

from __future__ import annotations

from evomerge.errors import ConfigError
from evomerge.estimators.irt_blend import FittedBlend
from evomerge.estimators.mp_irt import MpIrt
from evomerge.items import ItemBank


class GmpIrt:
    """c Z_weighted + (1 - c) Z_mp-irt; c = 1/2 is what the authors' code fixes. lambda_prior as in MpIrt."""

    def __init__(self, *, c: float = 0.5, lambda_prior: str | None = None):
        if not 0 <= c <= 1:
            raise ConfigError(f"estimator.c is {c}; wanted a share of the weighted mean in [0, 1].")
        self._c, self._mp_irt = c, MpIrt(lambda_prior=lambda_prior)

    def fit(self, bank: ItemBank) -> FittedBlend:
        return FittedBlend(self._mp_irt.fit(bank), lambda task, n: self._c)
