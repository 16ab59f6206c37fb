"""The subset that is no subset."""

from __future__ import annotations

from evomerge.subsets.everything import Everything


def test_it_is_the_bank_itself_whatever_the_seed():
    bank = {"a": ("x", "y"), "b": ("z",)}
    assert Everything().draw(bank, 1) == Everything().draw(bank, 2) == {"a": ("x", "y"), "b": ("z",)}
