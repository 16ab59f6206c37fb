"""The anchors' scores, weighted by how much of the bank each stands for (Polo et al. 2024, arXiv:2402.14992, eq. 2)."""

from __future__ import annotations

from evomerge.estimators.mean import FittedMean
from evomerge.items import ItemBank


class AnchorWeighted:
    """sum_c W_c y_c / sum_c W_c of each task, W_c the share of the cluster that anchor c was drawn for.

    A Draw carries these shares as its weights, so this is the estimator `mean` under the name of the papers. The
    standard error is that of a weighted mean of random items: anchors, chosen to stand for others, err less or,
    where the candidate is unlike the models they were chosen by, in one direction.
    """

    def fit(self, bank: ItemBank) -> FittedMean:
        return FittedMean(bank)
