#!/usr/bin/env bash
# Test a checkpoint under Slurm.
#
#   bash tools/slurm_test.sh PARTITION JOB_NAME CONFIG CHECKPOINT [options of tools/test.py]
#
# GPUS (all of them together, 8), GPUS_PER_NODE (8), CPUS_PER_TASK (5) and SRUN_ARGS are read from the environment.
set -euo pipefail

if [ $# -lt 4 ]; then
    echo "usage: bash tools/slurm_test.sh PARTITION JOB_NAME CONFIG CHECKPOINT [options of tools/test.py]" >&2
    exit 2
fi
if ! command -v srun > /dev/null; then
    echo "error: srun not found: this is not a Slurm cluster; use tools/dist_test.sh." >&2
    exit 2
fi
HERE="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
source "$HERE/slurm_job.sh"
run_under_slurm "$1" "$2" test.py "$3" "$4" "${@:5}"
