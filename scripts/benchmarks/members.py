"""The estimators and subsets under test, made from conf/ as a search makes them."""

from __future__ import annotations

from typing import Any

from omegaconf import OmegaConf

from evomerge.config import CONF, make, plain
from evomerge.families import Estimator, Fitted, Subset
from evomerge.items import ItemBank

#: "merit" sees the endpoints' answers as bits, "merit+margins" their margins.
ESTIMATORS = (
    "mean",
    "post_strat",
    "anchor_weighted",
    "p_irt",
    "gp_irt",
    "mp_irt",
    "gmp_irt",
    "merit",
)
MARGINS = "merit+margins"
SUBSETS = ("random", "stratified", "neyman", "kmeans_irt", "kmeans_correctness", "fisher")
#: Those that learn nothing from the endpoints' answers.
FREE = ("mean", "random")


def fit(name: str, bank: ItemBank) -> Fitted:
    """The named estimator on a bank."""
    member, _, suffix = name.partition("+")
    settings = {"covariates": suffix or "bits"} if member == "merit" else {}
    made: Estimator = make("estimator", _node("estimator", member) | settings)
    return made.fit(bank)


def subset(name: str, n: int) -> Subset:
    """The named subset of n items in all."""
    made: Subset = make("subset", _node("subset", name) | {"n": n})
    return made


def _node(group: str, name: str) -> dict[str, Any]:
    node: dict[str, Any] = plain(OmegaConf.load(CONF / group / f"{name}.yaml"))
    return node
