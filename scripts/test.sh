#!/usr/bin/env bash
# The tests. bash scripts/test.sh: all of them; bash scripts/test.sh --fast: without whole searches and kills.
# What follows goes to pytest: bash scripts/test.sh --cov tells which lines ran (and takes a third longer).
source "$(dirname "$0")/setup.sh"
SELECT=(-m "not gpu")
if [ "${1:-}" = "--fast" ]; then
  SELECT=(-m "not gpu and not slow")
  shift
fi
ruff format --check --quiet . && ruff check --quiet . && mypy --no-error-summary
export HF_HUB_OFFLINE=1 HF_DATASETS_OFFLINE=1 TOKENIZERS_PARALLELISM=false OMP_NUM_THREADS=1
exec python -m pytest -q -n logical --dist loadfile --no-loadscope-reorder "${SELECT[@]}" --durations=10 "$@"
