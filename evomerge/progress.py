"""What a person sees while a search runs: phase, candidates, best so far, rate, time left."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class Display:
    """Watches the journal's steps: a live bar per phase on a terminal, elsewhere a line per phase and half minute."""

    def __init__(self, console: Console):
        self._console = console
        self._live = console.is_terminal
        columns = (
            TextColumn("{task.description:<11}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[facts]}"),
        )
        self._bars = Progress(
            *columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console, disable=not self._live
        )
        self._phase, self._total, self._done, self._failed = "", 0, 0, 0
        self._best: float | None = None
        self._began = self._spoke = time.monotonic()
        self._bar: Any = None

    def __enter__(self) -> Display:
        self._bars.start()
        return self

    def __exit__(self, *raised: Any) -> None:
        self._bars.stop()

    def __call__(self, step: str, /, **facts: Any) -> None:
        if step == "begin":
            self._console.print(f"run: {facts['folder']}", highlight=False, markup=False, soft_wrap=True)
        elif step == "notes":
            for note in facts["notes"]:
                self._console.print(f"note: {note}", style="yellow", highlight=False, markup=False, soft_wrap=True)
        elif step == "phase":
            self._start(facts["name"], facts["total"])
        elif step == "asked":
            self._asked(facts["n"], facts["known"])
        elif step == "evaluated":
            self._done += 1
            self._failed += facts["error"] is not None
            self._show()
        elif step == "committed":
            self._best = facts["best"]
            self._show()

    def _start(self, name: str, total: int | None) -> None:
        self._phase, self._total, self._done, self._failed, self._best = name, total or 0, 0, 0, None
        self._began = time.monotonic()
        self._bar = self._bars.add_task(name, total=total, facts="")
        if not self._live:
            self._console.print(f"{name}: {total if total is not None else '?'} to evaluate", highlight=False)

    def _asked(self, n: int, known: int) -> None:
        self._done += known
        self._show()

    def _show(self) -> None:
        rate = 60 * self._done / max(time.monotonic() - self._began, 1e-3)
        parts = [f"{rate:.0f}/min"] if self._done else []
        parts += [f"best {self._best:.3f}"] if self._best is not None else []
        parts += [f"{self._failed} failed"] if self._failed else []
        self._bars.update(self._bar, completed=self._done, facts="  ".join(parts))
        if not self._live and time.monotonic() - self._spoke > 30:
            self._spoke = time.monotonic()
            self._console.print(
                f"{self._phase}: {self._done} of {self._total or '?'}, {', '.join(parts)}", highlight=False
            )
