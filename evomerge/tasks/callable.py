"""A measure of the user's own: a Python function that rates each answer."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import math
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

from evomerge.errors import ConfigError, unknown
from evomerge.tasks.answers import Answers
from evomerge.tasks.documents import Document
from evomerge.tasks.language import check_language, spoken, teller
from evomerge.types import Metric


@dataclass(kw_only=True, eq=False)
class Own(Answers):
    """`function(prompt, answer, document) -> float`, averaged over prompts.

    target: "path/to/file.py:function" or "module.function" of an installed module. prompt: the document's `field`, as
    written in the file. With a `language`, an answer in another one counts 0 and is not shown to the function.
    """

    target: str
    higher_is_better: bool = True
    language: str | None = None

    def check(self) -> None:
        if self.language is not None:
            check_language(f"measures.{self.name}.language", self.language)
            if not self.higher_is_better:
                raise ConfigError(
                    f"measures.{self.name}: an answer in another language counts 0: good, where less is better. "
                    "Leave out language, and bound a measure of kind language."
                )
        if self._in_file:  # absolute, since workers may start elsewhere
            file, name = self._address
            self.target = f"{Path(file).expanduser().resolve()}:{name}"
        try:
            inspect.signature(self._function).bind("prompt", "answer", {})
        except (TypeError, ValueError) as e:
            raise ConfigError(
                f"{self._where} cannot be called as (prompt, answer, document): {e}. Give it these three parameters."
            ) from e

    @property
    def metric(self) -> Metric:
        return Metric(self._address[1], self.higher_is_better)

    def remarks(self) -> tuple[str, ...]:
        return (f"{self.name}: runs your code, {self.target}; equal answers must get equal ratings",)

    def facts(self) -> dict[str, Any]:
        """The bytes of its file stand for the function; what it imports is not seen."""
        file = getattr(self._module, "__file__", None)
        source = Path(file).read_bytes() if file else self._module.__name__.encode()
        where = Path(self.target).name if self._in_file else self.target  # the same file may lie elsewhere
        facts = {"target": where, "source": hashlib.sha256(source).hexdigest()[:16]}
        return facts | ({"teller": teller()} if self.language else {})

    def rate(self, answer: str, doc: Document, backend: Any) -> float:
        """Raises ConfigError if the function fails or gives no finite number: no candidate could do better."""
        if self.language is not None and not spoken(answer, self.language):
            return 0.0
        try:
            found = self._function(doc[self.field], answer, dict(doc))
            value = float(found)
        except Exception as e:
            last = traceback.extract_tb(e.__traceback__)[-1]
            raise ConfigError(
                f"{self._where} failed on the answer {answer[:80]!r}: {type(e).__name__}: {e} "
                f"({Path(last.filename).name}, line {last.lineno}). Mend the function; it has to rate any text."
            ) from e
        if not math.isfinite(value):
            raise ConfigError(f"{self._where} gives {found!r} for the answer {answer[:80]!r}; wanted a finite number.")
        return value

    @property
    def _where(self) -> str:
        return f"measures.{self.name}.target '{self.target}'"

    @property
    def _in_file(self) -> bool:
        return ":" in self.target

    @property
    def _address(self) -> tuple[str, str]:
        """Of the file or module, and the function's name."""
        address, _, name = self.target.rpartition(":" if self._in_file else ".")
        return address, name

    @cached_property
    def _module(self) -> ModuleType:
        address, _ = self._address
        try:
            return _from_file(Path(address)) if self._in_file else importlib.import_module(address)
        except Exception as e:  # the user's file runs here: anything can come
            raise ConfigError(
                f"{self._where} cannot be loaded ({type(e).__name__}: {e}). Wanted path/to/file.py:function or "
                "module.function of an installed module."
            ) from e

    @property
    def _function(self) -> Callable[..., Any]:
        name = self._address[1]
        found = getattr(self._module, name, None)
        if not callable(found):
            known = [n for n, thing in vars(self._module).items() if callable(thing) and not n.startswith("_")]
            raise ConfigError(f"{self._where}: {unknown('function', name, known)}")
        return found  # type: ignore[no-any-return]

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k != "_module"}  # a worker loads it for itself


def _from_file(path: Path) -> ModuleType:
    """A file as a module of its own, under a name that no import statement finds by chance."""
    name = f"_measure_{hashlib.sha256(str(path).encode()).hexdigest()[:16]}"
    found = importlib.util.spec_from_file_location(name, path)
    if found is None or found.loader is None:
        raise ImportError(f"{path.name} is no Python file")
    module = importlib.util.module_from_spec(found)
    sys.modules[name] = module  # dataclasses look their module up there
    found.loader.exec_module(module)
    return module
