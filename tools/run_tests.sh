#!/usr/bin/env bash
# Make the environment if needed, and run the tests.
#
#   bash tools/run_tests.sh [options of pytest, or the tests to run]
#
# VENV (.venv), PYTHON (python3), REQUIREMENTS (lora parquet ood search export tests: files of requirements/ beside runtime.txt) and
# TEST_PROCESSES (as many as there are processors, at most 4) are read from the environment.
set -euo pipefail

source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
read -ra requirements <<< "${REQUIREMENTS:-lora parquet ood search export tests}"
make_environment "${requirements[@]}"
cd "$ROOT"
# The networks of the tests are small: a second thread costs more than it saves.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
# Hundreds of processes start: where this is set, each compiles all modules again.
unset PYTHONDONTWRITEBYTECODE
# No test needs the internet; with this a download fails at once instead of after many retries.
export HF_HUB_OFFLINE="${HF_HUB_OFFLINE:-1}"
processes="${TEST_PROCESSES:-$(env -u OMP_NUM_THREADS nproc 2> /dev/null || echo 1)}" # nproc goes by that variable
if [ -z "${TEST_PROCESSES:-}" ] && [ "$processes" -gt 4 ]; then
    processes=4
fi
# The tests of a file stay together: they share fixtures. Files keep their order, which ends with quick ones: by their
# number of tests, those of one long test came last, and all but one process waited.
exec "$PYTHON" -m pytest --numprocesses "$processes" --dist loadfile --no-loadscope-reorder "$@"
