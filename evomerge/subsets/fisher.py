"""Items in proportion to what they tell of a model as able as the endpoints (Fisher information of the 2PL model)."""

from __future__ import annotations

import numpy as np

from evomerge.errors import ConfigError
from evomerge.families import Sampler
from evomerge.items import ItemBank
from evomerge.subsets.answers import distinct
from evomerge.subsets.canonical import fitted
from evomerge.subsets.frame import Frame
from evomerge.subsets.pps import floored, inclusion
from evomerge.subsets.shares import checked
from evomerge.subsets.systematic import Systematic

#: Of the largest square root of information in a task.
_FLOOR = 0.05
_MODELS = 50


class Fisher:
    """Systematic sample of probability proportional to weight times sqrt(information) about one general ability.

    It ranks models well by that ability, and knows of no other: items that only special skills solve are asked
    seldom. Raises ConfigError at `fit` if the leaderboard has fewer than 50 models.
    """

    def __init__(self, *, n: int | None = None, fresh: bool | None = None):
        self._n, self.fresh = checked(n), fresh

    def fit(self, bank: ItemBank, seed: int) -> Sampler:
        def rule(ordered: ItemBank, n: int) -> Sampler:
            _demand_leaderboard(ordered)
            frame = Frame.of(ordered)
            sizes = frame.weights * floored(np.sqrt(information(ordered)), frame, _FLOOR)
            return Systematic(frame, inclusion(sizes, frame, n), seed)

        return fitted(bank, self._n, rule)


def _demand_leaderboard(bank: ItemBank) -> None:
    models = int(np.isfinite(bank.leaderboard).any(1).sum())
    if models < _MODELS:
        raise ConfigError(
            f"subset=fisher needs a leaderboard of {_MODELS} models and knows {models}. "
            "Add models to it, or set subset=neyman."
        )


def information(bank: ItemBank) -> np.ndarray:
    """float64 (N,), positive: a^2 p (1 - p) at the endpoints' mean ability, the prior's mean if there are none."""
    from evomerge.estimators.irt import calibrate

    rows, endpoints = distinct(bank)
    fit = calibrate(rows, dimensions=1)
    able = fit.abilities[endpoints].mean(0) if len(endpoints) else np.zeros(1)
    p = fit.items.probability(able)
    return np.asarray(fit.items.slopes[:, 0] ** 2 * p * (1 - p))
