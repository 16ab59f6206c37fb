"""Merge tiny llamas with mergekit itself, and keep what it makes: tests hold the importer to these files.

    /path/to/mergekit/env/bin/python scripts/make_mergekit_golden.py     # writes into tests/golden/mergekit

Run it with the Python that mergekit is installed in; evomerge is not needed there. Every YAML of the folder is given to
`mergekit-yaml` in a scratch folder where the models lie as `llamas/NAME`, and the merged tensors are kept beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

from safetensors.torch import load_file, save_file

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = ROOT / "tests" / "golden" / "mergekit"
OPTIONS = ("--no-copy-tokenizer", "--no-write-model-card", "--random-seed", "7")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("configs", nargs="*", type=Path, help="YAML files; all of the golden folder if none")
    configs = parser.parse_args().configs or sorted(GOLDEN.glob("*.yml"))
    program = shutil.which("mergekit-yaml", path=str(Path(sys.executable).parent))
    if program is None:
        sys.exit(f"no mergekit-yaml beside {sys.executable}. Run this with the Python that mergekit is installed in.")
    with tempfile.TemporaryDirectory() as scratch:
        _make_llamas(Path(scratch) / "llamas")
        for config in configs:
            merged = _merged(program, config.resolve(), Path(scratch))
            save_file(merged, config.with_suffix(".safetensors"), {"config": config.name})
            print(f"{config.name}: {len(merged)} tensors, {config.with_suffix('.safetensors').stat().st_size} bytes")
    (GOLDEN / "provenance.json").write_text(json.dumps(_provenance(), indent=1) + "\n")


def _make_llamas(folder: Path) -> None:
    sys.path.insert(0, str(ROOT))
    from tests.mergekit_io.llamas import make_llamas

    make_llamas(folder)


def _merged(program: str, config: Path, scratch: Path) -> dict[str, object]:
    out = scratch / "merged" / config.stem
    quiet = {**os.environ, "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    subprocess.run([program, str(config), str(out), *OPTIONS], cwd=scratch, env=quiet, check=True)
    return {n: t for file in sorted(out.glob("*.safetensors")) for n, t in load_file(file).items()}


def _provenance() -> dict[str, object]:
    packages = ("mergekit", "torch", "transformers", "safetensors", "numpy")
    return {
        "made_by": "scripts/make_mergekit_golden.py",
        "command": f"mergekit-yaml CONFIG.yml OUT {' '.join(OPTIONS)}",
        "models": "tests/mergekit_io/llamas.py",
        "device": "cpu",
        "python": sys.version.partition(" ")[0],
        "versions": {name: metadata.version(name) for name in packages},
    }


if __name__ == "__main__":
    main()
