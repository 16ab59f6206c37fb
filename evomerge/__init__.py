"""evomerge: search for good merges of language models.

    run = evomerge.search("space.method=ties", {"budget.evaluations": 50}, run="outputs/first")
    print(run.report().verdict)
    run.export("merged")

Names are imported when they are first used: importing evomerge itself costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evomerge.api import Run as Run
    from evomerge.api import merge as merge
    from evomerge.api import open_run as open_run
    from evomerge.api import report as report
    from evomerge.api import resume as resume
    from evomerge.api import score as score
    from evomerge.api import search as search
    from evomerge.errors import EvomergeError as EvomergeError
    from evomerge.models.family import Family as Family
    from evomerge.models.family import open_family as open_family
    from evomerge.reports.nouns import Report as Report
    from evomerge.types import Blend as Blend
    from evomerge.types import Recipe as Recipe
    from evomerge.types import Slot as Slot

    __version__: str

_HOMES = {
    **dict.fromkeys(("Run", "merge", "open_run", "report", "resume", "score", "search"), "api"),
    **dict.fromkeys(("Blend", "Recipe", "Slot"), "types"),
    **dict.fromkeys(("Family", "open_family"), "models.family"),
    "EvomergeError": "errors",
    "Report": "reports.nouns",
}

__all__ = [
    "Blend",
    "EvomergeError",
    "Family",
    "Recipe",
    "Report",
    "Run",
    "Slot",
    "__version__",
    "merge",
    "open_family",
    "open_run",
    "report",
    "resume",
    "score",
    "search",
]


if not TYPE_CHECKING:  # type checkers read the imports above; with a __getattr__ they would take any name

    def __getattr__(name: str) -> Any:
        if name == "__version__":
            from importlib.metadata import version

            return version("evomerge")
        if name not in _HOMES:
            raise AttributeError(f"module 'evomerge' has no attribute '{name}'")
        return getattr(import_module(f"evomerge.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
