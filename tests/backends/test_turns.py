"""A plan asked of every slot gives what asking the plan of each slot alone would."""

from __future__ import annotations

import pytest
import torch

from evomerge.backends.shared import Prefixes, Shared
from evomerge.backends.turns import Turns, repeated
from tests.backends.asking import choices, make, wrapped

SLOTS = 3


@pytest.mark.parametrize("launch", [0, 10**9])
def test_slots_over_one_set_of_weights_answer_alike_and_as_without_slots(launch: int):
    backend = wrapped(make("llama"), batch_size=4)
    shared = Shared(backend.lm.model, launch=launch)
    pairs = [backend._pairs(*request.args) for request in choices(4, items=4)]
    plan = shared.plan(pairs, max_length=500, batch_size=4)
    assert any(len(chunk.prefix) for chunk in plan.chunks) is (launch == 0)
    with torch.inference_mode():
        alone = shared.answer(plan)
        shared.prefixes = Prefixes(Turns(shared.forward, lambda: SLOTS))
        found = shared.answer(repeated(plan, SLOTS))
    by_slot = [found[s * len(pairs) : (s + 1) * len(pairs)] for s in range(SLOTS)]
    assert by_slot[0] == by_slot[1] == by_slot[2]
    assert [loglik for loglik, _ in by_slot[0]] == pytest.approx([loglik for loglik, _ in alone], abs=1e-4)


def test_a_kept_beginning_counts_the_tokens_of_every_slot():
    backend = wrapped(make("llama"))
    turns = Turns(backend.lm.shared.forward, lambda: SLOTS)
    with torch.inference_mode():
        begun = turns.start(backend._pairs("twelve bytes", "x").context)
    assert begun.mask.shape == (1, SLOTS * 12)
    assert begun.repeated(2 * SLOTS).mask.shape == (2 * SLOTS, 12)
