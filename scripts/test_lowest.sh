#!/bin/sh
# The tests with the lowest version of everything that pyproject.toml admits, in an environment of their own.
# Takes some 6 GB under TMPDIR while it runs. Needs Python 3.10, 3.11 or 3.12: older torch is not built for later ones.
# Arguments go to pytest: scripts/test_lowest.sh tests/losses
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT INT TERM

# "torch>=2.4" becomes "torch==2.4".
sed -n '/^dependencies = \[/,/^transformers = /s/^ *"\([A-Za-z]*\)[^>]*>=\([0-9.]*\)",$/\1==\2/p' pyproject.toml > "$folder/lowest.txt"
cat "$folder/lowest.txt"
"$python" -m venv "$folder/lowest"
"$folder/lowest/bin/pip" install --quiet --upgrade pip
"$folder/lowest/bin/pip" install --quiet --constraint "$folder/lowest.txt" --editable ".[train]" \
    pytest pytest-xdist hypothesis scikit-learn selenium
export OMP_NUM_THREADS=1
"$folder/lowest/bin/rankdet" show environment
"$folder/lowest/bin/python" -m pytest -n 2 --dist worksteal -m "not slow" "$@"
