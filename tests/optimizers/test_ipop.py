"""IPOP: each run twice as large as the one before."""

from __future__ import annotations

from itertools import groupby

from evomerge.optimizers.ipop import Ipop
from tests.optimizers import multimodal
from tests.optimizers.driving import go, plain


def test_populations_double_from_run_to_run():
    asked, _ = go(Ipop(plain(3), 1, population=5), 90, multimodal.score)
    sizes = [n for n, _ in groupby(len(b) for b in asked)]
    assert sizes[:4] == [5, 10, 20, 40]


def test_every_run_begins_with_the_first_steps():
    optimizer = Ipop(plain(2), 1, patience=1, narrow=0.0, sigma=0.01)
    widths = []
    for _ in range(6):
        batch, _ = go(optimizer, 2, lambda c: 0.0)
        widths.append(max(abs(a.genome - b.genome).max() for a in batch[0] for b in batch[0]))
    assert max(widths) < 20 * min(widths) < 0.5
