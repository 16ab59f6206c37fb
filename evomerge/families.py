"""The Protocols of the families: what a member must offer to be chosen by its address."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

from evomerge.items import Draw, ItemBank, Observed
from evomerge.types import (
    Candidate,
    Estimate,
    Evaluation,
    Genome,
    ItemScores,
    Judge,
    Metric,
    Recipe,
    Result,
    Variable,
    Work,
)

#: The answers of a candidate, rung by rung -> what it is worth by them.
Worth: TypeAlias = Callable[[Sequence[tuple[ItemScores, ...]]], Estimate]


class Space(Protocol):
    """Genome <-> Recipe."""

    size: int
    variables: tuple[Variable, ...]

    def decode(self, genome: Genome) -> Recipe: ...
    def encode(self, recipe: Recipe) -> Genome | None: ...


class Request(Protocol):
    """One question to a language model, as lm-eval forms it."""

    request_type: str
    args: tuple[Any, ...]


class Backend(Protocol):
    """A live model: opened once, weights written in place, then asked. batch_size is part of a run's identity.

    Optional, to serve several candidates at once: `together`, how many; `write_together(recipes by slot)`, some slots
    may be absent; `turn_to(slot)`, whose answers are wanted. Slot and answers do not depend on who else is there.
    `write_alone(recipe)`, for what never has company.

    Optional, too: `check(family, recipes)` raises ConfigError for what it cannot serve, before anything is opened;
    `close()` gives back what does not end with the process; `incidental` names settings that answers do not depend on;
    `remote` says that the model lies elsewhere.
    """

    batch_size: int

    def open(self, family: Any, device: Any, dtype: str) -> None: ...
    def write(self, recipe: Recipe) -> None: ...
    def answer(self, requests: Sequence[Request]) -> list[Any]: ...


class Task(Protocol):
    """What is asked and how an answer is scored, item by item."""

    name: str
    metric: Metric
    items: Mapping[str, tuple[str, ...]]  # content hashes by split: "search", "selection", "test"

    def identity(self) -> Mapping[str, Any]: ...
    def score(self, backend: Backend, items: Sequence[str]) -> ItemScores: ...


class Race(Protocol):
    """When a candidate is asked no more. `chunks`: the number of rungs that a draw is cut into.

    `judge` serves workers, candidate by candidate; `survivors` the loop, rung by rung: places of those that go on,
    None for all.
    """

    chunks: int

    def judge(self, worth: Worth, batch: Sequence[Estimate], lag: int) -> Judge | None: ...
    def survivors(self, values: Sequence[float]) -> list[int] | None: ...


class Objective(Protocol):
    """Estimates per task -> one or more goals, always maximised. `floor`, `parents`: the references' estimates."""

    def goals(self, tasks: Sequence[str]) -> tuple[str, ...]:
        """What the goals are called. Raises ConfigError if the settings do not fit these tasks."""

    def combine(
        self, tasks: Sequence[Estimate], floor: Sequence[Estimate], parents: Sequence[Sequence[Estimate]]
    ) -> tuple[Estimate, ...]: ...


class Optimizer(Protocol):
    """Ask and tell, made from a Problem, a seed and its settings. Results come in id order.

    lag: how many candidates may be asked and not yet told; it may change with a tell. step: how many are told at once,
    in a batch of their own: the lag, or 1 in a steady state, where candidate k is asked right after k - lag was told.
    elitist: fitness told in different batches is compared, so one draw of items serves them all, unless `living`
    (ids of an elitist's members) are scored again on each new draw: their results then precede those of the batch.
    many_goals: whether fitness may have more than one entry. takes_choices: whether genes may be discrete.
    wants_answers: whether results are to bring item scores.

    Optional: `living`; `mean()`, a genome that is worth scoring at the end; `stopped`, why it has nothing more to try
    ("" as long as it has).
    """

    lag: int
    elitist: bool
    many_goals: bool
    takes_choices: bool
    wants_answers: bool

    @property
    def step(self) -> int: ...

    def ask(self, n: int) -> list[Candidate]: ...
    def tell(self, results: Sequence[Result]) -> None: ...


class Executor(Protocol):
    """Where work runs. Works are submitted at any time; their evaluations come back in completion order.

    `workers`: how many candidates are evaluated at a time. `record` writes to events before each attempt.
    """

    workers: int

    def check(self, evaluator: Any) -> None:
        """Raises ConfigError if this machine or cluster cannot serve; asked before anything is paid."""

    def start(self, evaluator: Any, record: Callable[..., None]) -> None:
        """Begin to serve works with this evaluator; again, for the same one, does nothing."""

    def submit(self, works: Sequence[Work]) -> None: ...

    def next(self) -> Evaluation:
        """The next finished rung of any submitted work. Raises IndexError if nothing is out."""

    def close(self) -> None:
        """End the workers and forget what is out; a later start opens them anew."""


class Sampler(Protocol):
    """A subset rule that knows its bank; draws are keyed by (seed, number), never by order of calls."""

    def draw(self, number: int) -> Draw: ...


class Subset(Protocol):
    """Which of the search items a batch runs. Raises ConfigError at `fit` if the bank cannot serve it."""

    def fit(self, bank: ItemBank, seed: int) -> Sampler: ...


class Fitted(Protocol):
    """An estimator that knows its bank. Pure: equal observations give equal estimates."""

    def estimate(self, observed: Sequence[Observed], earlier: Sequence[Observed] = ()) -> list[tuple[Estimate, ...]]:
        """Per candidate one Estimate a task, of its weighted score on the whole bank, learning from `earlier` too."""

    def frozen(self, earlier: Sequence[Observed]) -> Fitted:
        """What was learned from `earlier`, held fixed: then a candidate's estimate depends on its own answers alone."""


class Estimator(Protocol):
    """Observations -> estimates."""

    def fit(self, bank: ItemBank) -> Fitted: ...
