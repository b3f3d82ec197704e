#!/usr/bin/env bash
# Test a checkpoint with several processes, through torchrun: NCCL with GPUs, gloo without.
#
#   bash tools/dist_test.sh CONFIG CHECKPOINT PROCESSES_PER_MACHINE [options of tools/test.py]
#
# Several machines: run it on each, with NNODES, NODE_RANK (0, 1, ...), MASTER_ADDR and PORT set.
set -euo pipefail

if [ $# -lt 3 ]; then
    echo "usage: bash tools/dist_test.sh CONFIG CHECKPOINT PROCESSES_PER_MACHINE [options of tools/test.py]" >&2
    exit 2
fi
HERE="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
CONFIG="$1"
CHECKPOINT="$2"
PROCESSES="$3"
shift 3
source "$HERE/processes.sh"
check_processes "$PROCESSES"
check_config "$CONFIG"
launch "$PROCESSES" "$HERE/test.py" "$CONFIG" "$CHECKPOINT" --launcher pytorch "$@"
