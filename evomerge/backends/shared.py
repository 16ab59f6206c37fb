"""Log-likelihoods by shared forward passes: what begins alike is computed once for each set of weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from evomerge.backends.encoding import Memory, Pair
from evomerge.backends.forward import Forward, Past
from evomerge.backends.passes import Batch, Chunk, Pass, Plan, plan

#: Tokens that could be computed while one more forward pass is being started, by kind of device.
LAUNCH = {"cpu": 32}
LAUNCH_ELSEWHERE = 512
KEPT = 8192  # tokens of prefixes that stay cached from call to call
PLANNED = 2**20  # tokens in remembered plans

Answer = tuple[float, bool]


class Prefixes:
    """Caches of common beginnings, for one set of weights.

    A kept cache has the very bits of a new one (it is made of one row, alone), so answers do not depend on history.
    """

    def __init__(self, forward: Forward) -> None:
        self._forward = forward
        self._kept: dict[bytes, Past] = {}
        self._weights: int | None = None

    def past(self, tokens: np.ndarray, *, keep: bool) -> Past:
        """Cache of one row of these tokens, int32 (n >= 1,)."""
        if self._weights != (now := self._version()):
            self.forget()
            self._weights = now
        key = tokens.tobytes()
        found = self._kept.get(key) or self._forward.start(tokens)
        if keep:
            self._kept[key] = found
            while sum(past.mask.shape[1] for past in self._kept.values()) > KEPT and len(self._kept) > 1:
                del self._kept[next(iter(self._kept))]
        return found

    def forget(self) -> None:
        """To be called before weights are written, so that their memory is free by then."""
        self._kept = {}

    def _version(self) -> int:
        """Changes with any write in place, also by those who forget to say so."""
        return sum(p._version for p in self._forward.model.parameters() if not p.is_inference())


class Shared:
    """Answers log-likelihood requests as lm-eval does, up to the rounding of differently shaped batches.

    launch: tokens in whose time a pass can be started (None: by the device). window: columns that every layer sees
    (None: all).
    """

    def __init__(self, model: Any, *, launch: int | None = None, window: int | None = None) -> None:
        self.forward = Forward(model)
        self.prefixes = Prefixes(self.forward)
        self.launch = LAUNCH.get(model.device.type, LAUNCH_ELSEWHERE) if launch is None else launch
        self._window = window
        self._plans = Memory(PLANNED)

    def reaches(self, columns: int) -> bool:
        """Whether all layers see that far. Beyond a window, padding between tokens would count as tokens."""
        return self._window is None or columns <= self._window

    def plan(self, pairs: Sequence[Pair], *, max_length: int, batch_size: int) -> Plan:
        """Made once for the same pairs, which are kept: an object's id is its own only while it lives."""

        def make() -> tuple[Any, Plan]:
            return tuple(pairs), plan(pairs, max_length=max_length, batch_size=batch_size, launch=self.launch)

        key = (max_length, batch_size, tuple(map(id, pairs)))
        return self._plans.recall(key, make, lambda made: made[1].tokens)[1]

    def answer(self, passes: Plan) -> list[Answer]:
        """(log-likelihood, whether each token is the likeliest) of each pair of the plan."""
        if not passes.lengths:
            return []
        found = [part for chunk in passes.chunks for part in self._chunk(chunk)]
        places = torch.cat([places for places, _, _ in found])
        logliks, greedy = (
            torch.split(_in_order(torch.cat([part[k] for part in found]).cpu(), places), list(passes.lengths))
            for k in (1, 2)
        )
        return [(float(own.sum()), bool(right.all())) for own, right in zip(logliks, greedy, strict=True)]

    def _chunk(self, chunk: Chunk) -> list[tuple[torch.Tensor, ...]]:
        prefix = self.prefixes.past(chunk.prefix, keep=chunk.common) if len(chunk.prefix) else None
        return [part for batch in chunk.batches for part in self._batch(batch, prefix)]

    def _batch(self, batch: Batch, prefix: Past | None) -> list[tuple[torch.Tensor, ...]]:
        n = len(batch.trunk.rows)
        past = prefix.repeated(n) if prefix else self.forward.nothing(n) if batch.forks else None
        part, grown = self._pass(batch.trunk, past)
        return [part, *(self._fork(fork, grown, last=fork is batch.forks[-1]) for fork in batch.forks)]

    def _fork(self, fork: Pass, grown: Past | None, *, last: bool) -> tuple[torch.Tensor, ...]:
        assert grown is not None
        rows = list(fork.parents)
        return self._pass(fork, grown.give(rows) if last else grown.selected(rows))[0]

    def _pass(self, run: Pass, past: Past | None) -> tuple[tuple[torch.Tensor, ...], Past | None]:
        ids, mask = self.forward.rows([row.tokens for row in run.rows])
        if past is not None:
            mask = torch.cat([past.mask, mask], dim=1)
        logits = self.forward(ids, mask, past, keep=run.keep)
        return _read(run, logits), Past(past.cache, mask) if past is not None else None


def _read(run: Pass, logits: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Places, log-probabilities and whether the token is the likeliest, of all that is read off a pass.

    In the dtype of the logits, as lm-eval computes it. Logits that several continuations need are read once.
    """
    last = run.keep - 1
    looks = [(k, last - back, token, place) for k, row in enumerate(run.rows) for back, token, place in row.looks]
    cells = list(dict.fromkeys((row, column) for row, column, _, _ in looks))
    of_cell = {cell: k for k, cell in enumerate(cells)}
    rows, columns = torch.tensor(cells, device=logits.device).T
    logprobs = logits[rows, columns].log_softmax(-1)  # (cells, vocabulary)
    chosen = torch.tensor([(of_cell[r, c], token) for r, c, token, _ in looks], device=logits.device).T
    greedy = logprobs.argmax(-1)[chosen[0]] == chosen[1]
    return torch.tensor([place for *_, place in looks]), logprobs[chosen[0], chosen[1]], greedy


def _in_order(values: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    ordered = torch.empty_like(values)
    ordered[places] = values
    return ordered
