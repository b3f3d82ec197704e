#!/usr/bin/env bash
# Make the environment if needed, and run the tests.
#
#   bash tools/run_tests.sh [options of pytest, or the tests to run]
#
# VENV (.venv) and PYTHON (python3) are read from the environment.
set -euo pipefail

source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
make_environment tests
cd "$ROOT"
# The networks of the tests are so small that a second thread costs more than it brings.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
# No test needs the internet; with this a model that would be fetched fails at once instead of after many retries.
export HF_HUB_OFFLINE="${HF_HUB_OFFLINE:-1}"
exec "$PYTHON" -m pytest "$@"
