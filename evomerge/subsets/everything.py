"""All search items, every time."""

from __future__ import annotations

from evomerge.families import Sampler
from evomerge.items import ItemBank
from evomerge.subsets.canonical import fitted, whole


class Everything:
    """The subset that is no subset: there is but one draw."""

    fresh: bool | None = False

    def fit(self, bank: ItemBank, seed: int) -> Sampler:
        return fitted(bank, bank.size, lambda ordered, n: whole(ordered))
