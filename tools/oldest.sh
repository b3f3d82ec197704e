#!/usr/bin/env bash
# Run the tests of what leans on the inside of dependencies, with the oldest or the newest set of them.
#
#   bash tools/oldest.sh [oldest|newest] [options of pytest]
#
# oldest (the default): exactly requirements/oldest.txt, in an environment of its own (OLDEST_VENV, .venv-oldest in the
# repository), made on the first call. If no Python here has wheels of that set it says NOT RUN and ends with 0: that
# says nothing about a change. An installation that fails is an error.
# newest: the environment of tools/run_tests.sh, where pip has taken the newest that requirements/ allows.
# PYTHON and TEST_PROCESSES as in tools/run_tests.sh.
set -euo pipefail

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
# The longest test first: it has the others beside it.
CORE=(
    tests/test_end_to_end.py::test_two_phases_on_the_digits
    tests/test_compat tests/test_requirements.py tests/test_checkpoint_reading.py tests/test_levers.py
    tests/test_models/test_adapters tests/test_models/test_backbones
    tests/test_models/test_weights
    tests/test_engine/test_optim
)
LEFT_OUT=( # they read our files, whatever is installed
    --deselect tests/test_compat/test_private_names.py::test_private_names_are_known_in_compat_alone
    --deselect tests/test_compat/test_private_names.py::test_no_decision_goes_by_the_text_of_an_error
)

# A Python for which there are wheels of all of requirements/oldest.txt.
find_python() {
    local candidate
    for candidate in "${PYTHON:-python3}" python3.12 python3.11 python3.10; do
        if "$candidate" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' 2> /dev/null; then
            echo "$candidate"
            return 0
        fi
    done
    return 1
}

which="${1:-oldest}"
case "$which" in
    newest) ;;
    oldest)
        if ! PYTHON="$(find_python)"; then
            echo "NOT RUN: the oldest set of dependencies has wheels for Python 3.10 to 3.12, and none of them is here." \
                "Set PYTHON to one."
            exit 0
        fi
        export PYTHON VENV="${OLDEST_VENV:-$ROOT/.venv-oldest}" REQUIREMENTS='oldest lora tests'
        ;;
    *)
        echo "error: expected oldest or newest, got '$which'. Type: bash tools/oldest.sh" >&2
        exit 2
        ;;
esac
cd "$ROOT"
exec bash tools/run_tests.sh "${CORE[@]}" "${LEFT_OUT[@]}" "${@:2}"
