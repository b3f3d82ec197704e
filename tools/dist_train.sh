#!/usr/bin/env bash
# Train with several processes on one or several machines, through torchrun: NCCL with GPUs, gloo without.
#
#   bash tools/dist_train.sh CONFIG PROCESSES_PER_MACHINE [options of tools/train.py]
#
# TORCHRUN_ARGS are read from the environment: TORCHRUN_ARGS="--max-restarts 3" with --resume restarts after a failure.
# Several machines: run it on each, with NNODES, NODE_RANK (0, 1, ...), MASTER_ADDR and PORT set.
set -euo pipefail

if [ $# -lt 2 ]; then
    echo "usage: bash tools/dist_train.sh CONFIG PROCESSES_PER_MACHINE [options of tools/train.py]" >&2
    exit 2
fi
HERE="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
CONFIG="$1"
PROCESSES="$2"
shift 2
source "$HERE/processes.sh"
check_processes "$PROCESSES"
check_config "$CONFIG"
launch "$PROCESSES" "$HERE/train.py" "$CONFIG" --launcher pytorch "$@"
