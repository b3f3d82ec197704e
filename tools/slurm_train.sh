#!/usr/bin/env bash
# Train under Slurm.
#
#   bash tools/slurm_train.sh PARTITION JOB_NAME CONFIG WORK_DIR [options of tools/train.py]
#
# GPUS (all of them together, 8), GPUS_PER_NODE (8), CPUS_PER_TASK (5), SIGNAL_SECONDS (120) and SRUN_ARGS are read from
# the environment. At the time limit of a batch job (sbatch) a training saves, is requeued, and resumes.
set -euo pipefail

if [ $# -lt 4 ]; then
    echo "usage: bash tools/slurm_train.sh PARTITION JOB_NAME CONFIG WORK_DIR [options of tools/train.py]" >&2
    exit 2
fi
if ! command -v srun > /dev/null; then
    echo "error: srun not found: this is not a Slurm cluster; use tools/dist_train.sh." >&2
    exit 2
fi
HERE="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
source "$HERE/slurm_job.sh"
if [ "${SLURM_RESTART_COUNT:-0}" -gt 0 ] && [[ " ${*:5} " != *" --resume"[\ =]* ]]; then
    set -- "$@" --resume # a requeued job resumes
fi
run_under_slurm "$1" "$2" train.py "$3" --work-dir "$4" "${@:5}"
