"""The subset that is no subset."""

from __future__ import annotations

import numpy as np

from evomerge.subsets.everything import Everything
from tests.subsets.banks import bank_of, named


def test_it_is_the_bank_itself_with_its_weights_whatever_seed_and_number():
    bank = bank_of()
    draw = Everything().fit(bank, 1).draw(0)
    assert sorted(draw.index.tolist()) == list(range(bank.size))
    assert np.array_equal(draw.weights, bank.weights[draw.index])
    assert named(bank, Everything().fit(bank, 2).draw(9)) == named(bank, draw)


def test_it_never_asks_for_another_draw():
    assert Everything().fresh is False


def test_an_empty_bank_gives_an_empty_draw():
    assert len(Everything().fit(bank_of({}), 1).draw(0).index) == 0
