# Makes .venv beside this folder's parent once; sourced by demo.sh and test.sh. A second call costs a moment.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PYTHON=${PYTHON:-python3}
STAMP=.venv/made-from
WANTED=$(cat pyproject.toml constraints.txt scripts/setup.sh | sha256sum | cut -c1-16)

if [ "$(cat $STAMP 2>/dev/null || true)" != "$WANTED" ]; then
  "$PYTHON" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || {
    echo "evomerge needs Python 3.11 to 3.13; $("$PYTHON" --version) found. Set PYTHON=/path/to/python3.11" >&2
    exit 1
  }
  echo "making .venv (a few minutes, once) ..." >&2
  "$PYTHON" -m venv .venv
  .venv/bin/pip install --quiet --disable-pip-version-check 'torch==2.13.0'
  .venv/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test]'
  echo "$WANTED" > $STAMP
fi
export PATH="$PWD/.venv/bin:$PATH"
