"""A process of its own that runs a search until its search phase is over.

    python scale_child.py FOLDER CONFIG_DIR SETTING ...

Beside the journal it leaves clock.json: {"began": when the driver had checked all and began, in seconds of
time.time(), "error": why it could not be run, or ""}.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from evomerge import api
from evomerge.errors import EvomergeError


class SearchOver(Exception):
    """The phases after the search are not measured."""


def main() -> None:
    folder, config_dir, *settings = sys.argv[1:]
    Path(folder).mkdir(parents=True, exist_ok=True)
    found = measured(Path(folder), config_dir, settings)
    (Path(folder) / "clock.json").write_text(json.dumps(found) + "\n")


def measured(folder: Path, config_dir: str, settings: list[str]) -> dict[str, Any]:
    began: list[float] = []

    def watch(step: str, /, **facts: Any) -> None:
        if step == "begin":
            began.append(time.time())
        if step == "phase" and facts["name"] in ("control", "selection"):
            raise SearchOver

    try:
        api.search(*settings, run=folder, config_dirs=[config_dir], watch=watch)
    except SearchOver:
        return {"began": began[0], "error": ""}
    except EvomergeError as e:
        return {"began": None, "error": str(e)}
    raise AssertionError("a search ends with its selection")


if __name__ == "__main__":
    main()
