"""Run by the Python that has mergekit: merge every YAML of a folder, in one process, each into merged/NAME."""

from __future__ import annotations

import sys
from importlib import metadata
from pathlib import Path

import yaml
from mergekit.config import MergeConfiguration
from mergekit.merge import run_merge
from mergekit.options import MergeOptions


def main(folder: Path) -> None:
    version = metadata.version("mergekit")
    if version != "0.1.5":
        sys.exit(f"mergekit {version} is installed, and evomerge is held to 0.1.5")
    options = MergeOptions(copy_tokenizer=False, write_model_card=False, quiet=True)
    for path in sorted(folder.glob("*.yml")):
        config = MergeConfiguration.model_validate(yaml.safe_load(path.read_text()))
        run_merge(config, str(folder / "merged" / path.stem), options=options)


main(Path(sys.argv[1]))
