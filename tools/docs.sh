#!/usr/bin/env bash
# Build the pages of docs/ with Sphinx into docs/_build/html; a warning is an error.
#
#   bash tools/docs.sh [doctest]    doctest: run the examples of the API's pages instead
#
# VENV (.venv) and PYTHON (python3) are read from the environment. The build needs no network.
set -euo pipefail

source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
make_environment docs
cd "$ROOT"
builder="${1:-html}"
OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" HF_HUB_OFFLINE=1 \
    "$PYTHON" -m sphinx -q -W --keep-going -b "$builder" docs "docs/_build/$builder"
