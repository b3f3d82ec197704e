#!/usr/bin/env bash
# From a fresh clone to a trained hybrid in one command: environment, two phases (SupCon, then AdaFace) on the
# handwritten digits of scikit-learn, a table of results. Run it again to resume it, or to print the results.
#
#   bash tools/quickstart.sh [options of tools/train.py]
#
# VENV (.venv), PYTHON (python3) and WORK_DIR (work_dirs/quickstart) are read from the environment.
set -euo pipefail

source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
make_environment
WORK_DIR="${WORK_DIR:-$ROOT/work_dirs/quickstart}"
cd "$ROOT"
exec "$PYTHON" -u tools/train.py configs/digits/two_phase.py --work-dir "$WORK_DIR" "$@"
