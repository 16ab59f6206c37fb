#!/usr/bin/env bash
# The tests. bash scripts/test.sh: all of them; bash scripts/test.sh --fast: without whole searches and kills.
source "$(dirname "$0")/setup.sh"
SELECT=(-m "not gpu")
if [ "${1:-}" = "--fast" ]; then
  SELECT=(-m "not gpu and not slow")
  shift
fi
ruff format --check --quiet . && ruff check --quiet . && mypy --no-error-summary
export HF_HUB_OFFLINE=1 HF_DATASETS_OFFLINE=1 TOKENIZERS_PARALLELISM=false OMP_NUM_THREADS=1
exec python -m pytest -q -n logical --dist loadfile "${SELECT[@]}" --cov --cov-report=term:skip-covered --durations=10 "$@"
