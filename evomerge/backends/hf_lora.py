"""Several candidates asked at once over one live base: merged adapters whose rows share every forward pass."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import torch

from evomerge.backends import population, trial
from evomerge.backends.encoding import Pair
from evomerge.backends.hf import HFBackend
from evomerge.backends.lm import RememberingLM
from evomerge.backends.lora_hooks import Changes, verify
from evomerge.backends.passes import plan
from evomerge.backends.shared import Prefixes, Shared
from evomerge.backends.slots import Loglik, Slots, by_slot, in_turn
from evomerge.backends.turns import Turns, repeated
from evomerge.errors import ConfigError
from evomerge.families import Request
from evomerge.models.family import Family
from evomerge.types import Recipe

NAME = "hf_lora"


class HFLora:
    """A live base that serves up to `together` candidates, each in a slot, without being rewritten.

    Made of plain settings and pickled without its model. `batch_size` counts rows per forward pass, over all
    candidates; each request takes a row for every slot, taken or not, so that a candidate's answers have the same bits
    whoever else is there. All slots are answered at the first question and remembered until the next write.
    `write` is slot 0 of a population; `write_alone` spends no rows on others, and its answers may differ in rounding.
    """

    def __init__(self, *, batch_size: int = 32, max_length: int | None = None, together: int = 8) -> None:
        self._hf = HFBackend(batch_size=batch_size, max_length=max_length, share_prefix=False)
        population.check_together(together, batch_size)
        self.batch_size, self.max_length, self.together = batch_size, max_length, together
        self.notes = (f"candidates were served as adapters over one base, {together} at a time",)
        self._family: Family | None = None

    def check(self, family: Family, recipes: Iterable[Recipe] = ()) -> None:
        """Raises ConfigError if these parents or recipes cannot be served; opens nothing."""
        population.check_family(family, NAME)
        for recipe in recipes:
            population.coefficients(recipe, family, NAME)

    def open(self, family: Family, device: torch.device, dtype: str) -> None:
        """Loads the base and joins the adapters' factors beside it; every slot is the base until the first write."""
        self.check(family)
        self._hf.open(family, device, dtype)
        with torch.inference_mode():
            reason = trial.refusal(self.lm)
        if reason is not None:
            raise ConfigError(f"backend={NAME} cannot share this model's passes: {reason}. Set backend=hf.")
        self._family, self._joined = family, population.join(family)
        self._changes = Changes(self.lm.model, self._joined)
        assert family.base is not None, "checked"
        verify(self.lm.model, self._changes, self._joined, family.base)
        self._slots = Slots(self.lm, self._logliks, self._texts)
        self.lm.shared = self._shared()
        self._load({}, self.together)
        self._hf.tokens_forwarded = 0

    def _shared(self) -> Shared:
        """Shared passes whose kept prefixes have a row for each slot; a pass is started in the time of fewer rows."""
        shared = Shared(self.lm.model, window=trial.window(self.lm.config))
        shared.launch = max(1, shared.launch // self.together)
        turns: Any = Turns(shared.forward, lambda: self._slots.count)
        shared.prefixes = Prefixes(turns)
        return shared

    def write(self, recipe: Recipe) -> None:
        """Serve one candidate, as slot 0 with all others absent."""
        self.write_together({0: recipe})

    def write_together(self, recipes: Mapping[int, Recipe]) -> None:
        """Serve candidates by slot, 0 to together - 1; then `turn_to` one of them. The lowest slot has its turn first.

        Raises ConfigError for a recipe that is more than a sum of the adapters.
        """
        self._load(recipes, self.together)

    def write_alone(self, recipe: Recipe) -> None:
        """Serve one candidate with no slots beside it: for what has no company, such as finalists."""
        self._load({0: recipe}, 1)

    def _load(self, recipes: Mapping[int, Recipe], slots: int) -> None:
        if self._family is None:
            raise ConfigError("the backend has no family to serve; call open(family, device, dtype) first.")
        tables = population.tables(population.seated(recipes, slots), self._family, self._joined, NAME)
        if self.lm.shared is not None:
            self.lm.shared.prefixes.forget()
        self._slots.serve(slots)
        self._changes.load(tables)
        self.turn_to(min(recipes, default=0))

    def turn_to(self, slot: int) -> None:
        """Answers are this slot's from now on."""
        assert 0 <= slot < self._slots.count, f"slot {slot}; there are {self._slots.count}"
        self._slots.turn = slot
        self._changes.only(slot)  # for those who call the live model themselves

    def answer(self, requests: Sequence[Request]) -> list[Any]:
        """As HFBackend.answer, of the candidate whose turn it is. Raises MergeError if a log-likelihood is NaN."""
        lm = self.lm  # raises if there is none yet
        lm.batch_size_per_gpu = self._requests_a_pass * self._slots.count
        with torch.inference_mode(), self._changes.in_turn(self._slots.turn):
            return self._slots.answer(requests, self.batch_size)

    def _logliks(self, pairs: list[Pair]) -> list[list[Loglik]]:
        shared, size = self.lm.shared, {"max_length": self.lm.max_length, "batch_size": self._requests_a_pass}
        assert shared is not None, "set by open"
        passes = shared.plan(pairs, **size)
        if not shared.reaches(passes.width):  # nothing may lie between a row's tokens
            passes = plan(pairs, **size, launch=trial.NEVER)
        found = shared.answer(repeated(passes, self._slots.count))
        return [found[s * len(pairs) : (s + 1) * len(pairs)] for s in range(self._slots.count)]

    def _texts(self, requests: list[Request]) -> list[list[str]]:
        """lm-eval sorts prompts, which keeps equal ones in their order, and cuts them into batches of whole turns."""
        copies: Any = in_turn(requests, self._slots.count)
        return by_slot(self.lm.generate_until(copies, disable_tqdm=True), self._slots.count)

    @property
    def _requests_a_pass(self) -> int:
        return max(1, self.batch_size // self._slots.count)

    @property
    def tokens_forwarded(self) -> int:
        """Tokens that the live model has read, those of absent slots included."""
        return self._hf.tokens_forwarded

    def apply_chat_template(self, messages: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """As HFBackend.apply_chat_template."""
        return self._hf.apply_chat_template(messages, add_generation_prompt)

    @property
    def tokenizer(self) -> Any:
        return self._hf.tokenizer

    @property
    def lm(self) -> RememberingLM:
        """The live model, whose rows are all of the candidate whose turn it is."""
        return self._hf.lm

    def __reduce__(self) -> tuple[Any, ...]:
        settings: dict[str, Any] = {"batch_size": self.batch_size, "max_length": self.max_length}
        return partial(HFLora, **settings, together=self.together), ()
