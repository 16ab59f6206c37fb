"""mp-IRT: a merge's ability is a mixture of its parents' (MERGE^3, Mencattini et al. 2025, arXiv:2502.10436)."""

from __future__ import annotations

from functools import partial

from evomerge.errors import ConfigError
from evomerge.estimators.irt_ability import ability, mixture
from evomerge.estimators.irt_fit import FittedIrt, calibrated
from evomerge.items import ItemBank


class MpIrt:
    """p-IRT with theta = sum_k lambda_k theta_k over the distinct endpoints, lambda fitted to the candidate's answers.

    lambda_prior: None as published, "normal" for N(1/K, 0.4^2), "simplex" for lambda >= 0 of sum 1. With fewer than
    two distinct endpoints there is nothing to mix: p-IRT, fallback "one-endpoint".
    """

    def __init__(self, *, lambda_prior: str | None = None):
        if lambda_prior not in (None, "normal", "simplex"):
            raise ConfigError(f"estimator.lambda_prior is {lambda_prior!r}; wanted null, 'normal' or 'simplex'.")
        self._prior = lambda_prior

    def fit(self, bank: ItemBank) -> FittedIrt:
        fit = calibrated(bank)
        if len(fit.parents) < 2:
            return FittedIrt(fit, partial(ability, fit.items, centre=fit.centre), "one-endpoint")
        return FittedIrt(fit, partial(mixture, fit.items, parents=fit.parents, prior=self._prior), fit.fallback)
