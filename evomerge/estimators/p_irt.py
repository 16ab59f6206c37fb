"""p-IRT: what was seen as it is, item response theory for the rest (Polo et al. 2024, arXiv:2402.14992)."""

from __future__ import annotations

from functools import partial

from evomerge.errors import ConfigError
from evomerge.estimators.irt_ability import ability
from evomerge.estimators.irt_fit import FittedIrt, calibrated, check_binarize
from evomerge.items import ItemBank


class PIrt:
    """One ability per candidate from all of its answers, one estimate per task from that ability.

    With fewer than 10 models to calibrate on (fallback "few-models") items have hardly any parameters of their own
    and the estimate is little more than a mean drawn towards the endpoints' level. prior: "normal" draws the ability
    towards the endpoints' mean; None is as published, bounded by +-6.
    """

    def __init__(self, *, prior: str | None = "normal", binarize: str | None = None):
        if prior not in (None, "normal"):
            raise ConfigError(f"estimator.prior is {prior!r}; wanted null or 'normal'.")
        check_binarize("estimator", binarize)
        self._prior, self._binarize = prior is not None, binarize

    def fit(self, bank: ItemBank) -> FittedIrt:
        fit = calibrated(bank, binarize=self._binarize)
        return FittedIrt(fit, partial(ability, fit.items, centre=fit.centre, prior=self._prior), fit.fallback)
