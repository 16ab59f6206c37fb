"""The forward passes that answer log-likelihood requests: common beginnings once, contexts once, only then choices.

Plain data over token ids; `forward` runs it. Rows are sorted by length and then by tokens, so a plan does not depend
on the order of its requests.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from evomerge.backends.encoding import Pair
from evomerge.backends.prefixes import groups

Tail = tuple[int, ...]
#: (columns from the right end, token that is scored there, place of its log-probability among all of the plan)
Look = tuple[int, int, int]


@dataclass(frozen=True)
class Row:
    """Tokens that enter a pass together, and what is read off them."""

    tokens: Tail
    looks: tuple[Look, ...]


@dataclass(frozen=True)
class Pass:
    """One call of the model. Rows are aligned to the right; row k goes on after row `parents[k]` of the pass before."""

    rows: tuple[Row, ...]
    parents: tuple[int, ...] = ()

    @property
    def width(self) -> int:
        return max(len(row.tokens) for row in self.rows)

    @property
    def keep(self) -> int:
        """Columns from the right whose logits are read."""
        return 1 + max((look[0] for row in self.rows for look in row.looks), default=0)

    @property
    def tokens(self) -> int:
        return len(self.rows) * self.width


@dataclass(frozen=True)
class Batch:
    """A pass over contexts, and passes that go on after it."""

    trunk: Pass
    forks: tuple[Pass, ...] = ()

    @property
    def passes(self) -> tuple[Pass, ...]:
        return (self.trunk, *self.forks)


@dataclass(frozen=True)
class Chunk:
    """Batches whose rows all go on after `prefix`: int32 (p >= 0,). `common`: enough rows to keep its cache for."""

    prefix: np.ndarray
    batches: tuple[Batch, ...]
    common: bool


@dataclass(frozen=True)
class Plan:
    """`lengths`: tokens scored of each request, whose places follow one another."""

    chunks: tuple[Chunk, ...]
    lengths: tuple[int, ...]

    @property
    def width(self) -> int:
        """Columns of the widest row, padding included."""
        widths = [len(c.prefix) + sum(p.width for p in b.passes[:2]) for c in self.chunks for b in c.batches]
        return max(widths, default=0)

    @property
    def tokens(self) -> int:
        """That the model reads, padding included, if no prefix is cached."""
        return sum(len(c.prefix) + sum(p.tokens for b in c.batches for p in b.passes) for c in self.chunks)


@dataclass
class _Prompt:
    """A context and all that is asked after it: continuations, each with the place of its first token."""

    context: np.ndarray
    asked: list[tuple[Tail, int]]

    def tails(self) -> dict[Tail, list[tuple[Tail, int]]]:
        """Continuations by what the model must read to score them: one that begins another is read off that one."""
        found: dict[Tail, list[tuple[Tail, int]]] = {}
        for continuation, place in sorted(self.asked, key=lambda a: (-len(a[0]), a[0])):
            needed = continuation[:-1]
            home = next((tail for tail in found if tail[: len(needed)] == needed), needed)
            found.setdefault(home, []).append((continuation, place))
        return found


KEPT = 4  # contexts that make a prefix worth keeping for the next call


def plan(pairs: Sequence[Pair], *, max_length: int, batch_size: int, launch: int) -> Plan:
    """The passes for these pairs, cut from the left as lm-eval cuts them: the model reads max_length tokens at most.

    launch: tokens in whose time a pass can be started. Every context and continuation must have a token, and
    no continuation more than max_length.
    """
    prompts = _prompts(pairs, max_length)
    chunks = []
    for members, shared in groups([p.context for p in prompts], launch):
        own = [_Prompt(prompts[i].context[shared:], prompts[i].asked) for i in members]
        batches = min((_fused(own, batch_size), _forked(own, batch_size)), key=lambda b: _cost(b, launch))
        chunks.append(Chunk(prompts[members[0]].context[:shared], tuple(batches), len(members) >= KEPT))
    return Plan(tuple(chunks), tuple(len(pair.continuation) for pair in pairs))


def _prompts(pairs: Sequence[Pair], max_length: int) -> list[_Prompt]:
    found: dict[bytes, _Prompt] = {}
    place = 0
    for pair in pairs:
        room = max_length + 1 - len(pair.continuation)  # the last token is scored, not read
        context = pair.context[-room:]
        prompt = found.setdefault(context.tobytes(), _Prompt(context, []))
        prompt.asked.append((tuple(pair.continuation.tolist()), place))
        place += len(pair.continuation)
    return list(found.values())


def _fused(prompts: Iterable[_Prompt], batch_size: int) -> list[Batch]:
    """Every row is a context with a continuation."""
    rows = [_whole(prompt.context, tail, asked) for prompt in prompts for tail, asked in prompt.tails().items()]
    return [Batch(Pass(tuple(part))) for part in _parts(sorted(rows, key=_long_first), batch_size)]


def _forked(prompts: Iterable[_Prompt], batch_size: int) -> list[Batch]:
    """Contexts first, then the continuations of those that have several, on copies of their context's cache."""
    both = sorted((_stem_and_forks(prompt) for prompt in prompts), key=lambda both: _long_first(both[0]))
    batches: list[Batch] = []
    stems: list[Row] = []
    forks: list[tuple[int, Row]] = []
    for stem, own in both:
        # no more forks than one pass holds: their cache then takes the place of the contexts'
        if stems and (len(stems) == batch_size or len(forks) + len(own) > batch_size):
            batches.append(_batch(stems, forks, batch_size))
            stems, forks = [], []
        forks += [(len(stems), row) for row in own]
        stems.append(stem)
    return [*batches, _batch(stems, forks, batch_size)]


def _batch(stems: list[Row], forks: list[tuple[int, Row]], batch_size: int) -> Batch:
    ordered = sorted(forks, key=lambda fork: (-len(fork[1].tokens), fork[0], fork[1].tokens))
    passes = (Pass(tuple(row for _, row in part), tuple(k for k, _ in part)) for part in _parts(ordered, batch_size))
    return Batch(Pass(tuple(stems)), tuple(passes))


def _stem_and_forks(prompt: _Prompt) -> tuple[Row, list[Row]]:
    tails = prompt.tails()
    if len(tails) == 1:
        return _whole(prompt.context, *next(iter(tails.items()))), []
    stem = tuple((0, continuation[0], place) for continuation, place in prompt.asked)
    forks = [Row(tail, _looks(tail, asked, 1)) for tail, asked in tails.items()]
    return Row(tuple(prompt.context.tolist()), stem), forks


def _whole(context: np.ndarray, tail: Tail, asked: list[tuple[Tail, int]]) -> Row:
    return Row((*context.tolist(), *tail), _looks(tail, asked, 0))


def _looks(tail: Tail, asked: list[tuple[Tail, int]], start: int) -> tuple[Look, ...]:
    """Where continuations are read off a row that ends in `tail`, from their token `start` on."""
    return tuple((len(tail) - t, c[t], place + t) for c, place in asked for t in range(start, len(c)))


def _long_first(row: Row) -> tuple[int, Tail]:
    """Longest first: what does not fit in memory fails at once."""
    return -len(row.tokens), row.tokens


def _parts(rows: list, size: int) -> list[list]:  # type: ignore[type-arg]
    return [rows[k : k + size] for k in range(0, len(rows), size)]


def _cost(batches: Iterable[Batch], launch: int) -> int:
    return sum(p.tokens + launch for batch in batches for p in batch.passes)
