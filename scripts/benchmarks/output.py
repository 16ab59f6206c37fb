"""Where a benchmark's rows are to be written, looked at before anything is measured."""

from __future__ import annotations

import argparse
import os
from pathlib import Path


def new_file(given: str) -> Path:
    """For argparse: the path of a file that can be written. Raises ArgumentTypeError for one that cannot."""
    path = Path(given)
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{given} is a folder; wanted a file, such as {path / 'rows.json'}")
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {path.parent}; make it first")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise argparse.ArgumentTypeError(f"{given} cannot be written")
    return path
