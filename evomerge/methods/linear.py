"""Linear: the weighted average of the parents (Wortsman et al. 2022, Model soups, arXiv:2203.05482, Section 2)."""

from __future__ import annotations

from collections.abc import Sequence

from evomerge.errors import MergeError
from evomerge.methods import knobs
from evomerge.methods.entries import Entries
from evomerge.methods.kernels import Sum
from evomerge.methods.settled import Settled
from evomerge.types import Knob, Method

#: mergekit-evolve and the soups' paper stay within the simplex; a negative weight unlearns.
WEIGHT = Knob("weight", default=1.0, low=0.0, high=1.0, per_parent=True)


def settle(entries: Entries, *, weight: float | Sequence[float] = 1.0, normalize: bool = True) -> Settled:
    """sum_k w_k theta_k, divided by sum_k w_k with `normalize`. The paper's soups have equal weights.

    Raises MergeError for weights that sum to zero under `normalize`, where mergekit gives inf and nan.
    """
    weights = knobs.per_parent("weight", weight, entries.parents)
    total = sum(weights) if normalize else 1.0
    if total == 0:
        raise MergeError(
            f"the weights {weights} sum to zero and are to be normalised. Change one, or normalize: false."
        )
    shares = tuple(w / total for w in weights)
    return Settled(Sum(), (shares,), gain=sum(map(abs, shares)))


METHOD = Method(
    name="linear",
    settle=settle,
    knobs=(WEIGHT, knobs.normalize(True)),
    on="tensors",
    source="Wortsman et al. 2022, arXiv:2203.05482",
    learns=False,
)
