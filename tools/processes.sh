# Sourced by dist_train.sh and dist_test.sh: start processes with torchrun, after checks.

PYTHON="${PYTHON:-python}"

# Count the GPUs that this shell may use; asking the driver is much faster than asking torch.
count_gpus() {
    if [ -n "${CUDA_VISIBLE_DEVICES+set}" ]; then
        case "$CUDA_VISIBLE_DEVICES" in
            '' | -1*) echo 0 ;;
            *) echo "$CUDA_VISIBLE_DEVICES" | tr ',' '\n' | grep -c . ;;
        esac
    elif command -v nvidia-smi > /dev/null; then
        nvidia-smi -L 2> /dev/null | grep -c '^GPU' || true
    else
        echo 0
    fi
}

check_processes() {
    case "$1" in
        '' | *[!0-9]* | 0)
            echo "error: expected the number of processes as an integer from 1, got '$1'." >&2
            exit 2
            ;;
    esac
    local gpus
    gpus="$(count_gpus)"
    if [ "$gpus" -gt 0 ] && [ "$1" -gt "$gpus" ]; then
        echo "error: expected at most $gpus processes, one for each visible GPU, got $1" \
            "(or set CUDA_VISIBLE_DEVICES=-1 to train on the CPU)." >&2
        exit 2
    fi
}

check_config() {
    [ -f "$1" ] || "$PYTHON" - "$1" << 'END' # a shipped config's name; an unknown one is answered with near names
import sys

from hybridcls.cli.find_config import find_config
from hybridcls.command_line import run_tool

run_tool(lambda: find_config('train', sys.argv[1]))
END
}

launch() {
    local processes="$1"
    shift
    local nodes="${NNODES:-1}" more
    local rendezvous=(--nnodes "$nodes" --node_rank "${NODE_RANK:-0}" --master_addr "${MASTER_ADDR:-127.0.0.1}"
        --master_port "${PORT:-29500}")
    if [ "$nodes" = 1 ] && [ -z "${PORT:-}" ]; then
        rendezvous=(--standalone) # finds a free port: two jobs on one machine do not collide
    fi
    # Without a limit each process would start as many threads as there are cores.
    if [ -z "${OMP_NUM_THREADS:-}" ]; then
        local threads=$(($(nproc 2> /dev/null || echo 1) / processes))
        export OMP_NUM_THREADS=$((threads > 0 ? threads : 1))
    fi
    # torchrun passes these on to its processes, which save; without the last, SIGUSR1 would end it alone.
    export TORCHELASTIC_SIGNALS_TO_HANDLE="${TORCHELASTIC_SIGNALS_TO_HANDLE:-SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1}"
    # With the store of torchrun itself, processes that it restarts (--max-restarts) find the addresses of the old ones.
    export TORCH_DISABLE_SHARE_RDZV_TCP_STORE="${TORCH_DISABLE_SHARE_RDZV_TCP_STORE:-1}"
    read -r -a more <<< "${TORCHRUN_ARGS:-}"
    PYTHONPATH="$(dirname "$HERE")${PYTHONPATH:+:$PYTHONPATH}" \
        exec "$PYTHON" -m torch.distributed.run "${rendezvous[@]}" --nproc_per_node "$processes" \
        ${more[@]+"${more[@]}"} "$@"
}
