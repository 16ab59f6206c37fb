#!/usr/bin/env bash
# The tests of the vLLM backends, in the environment that setup_vllm.sh makes. bash scripts/test_vllm.sh [PYTEST ARGUMENTS]
source "$(dirname "$0")/setup_vllm.sh"
export HF_HUB_OFFLINE=1 HF_DATASETS_OFFLINE=1 TOKENIZERS_PARALLELISM=false OMP_NUM_THREADS=1
exec python -m pytest -q -m vllm --durations=10 tests/vllm "$@"
