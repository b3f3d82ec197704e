# Sourced by slurm_train.sh and slurm_test.sh: start one of the Python tools under Slurm.

# run_under_slurm PARTITION JOB_NAME TOOL [arguments of the tool]
#
# Two minutes before the time limit (SIGNAL_SECONDS), Slurm sends SIGUSR1: a training saves and exits with status 75. A
# batch job (sbatch) is then requeued and resumes; from a shell, start it again.
run_under_slurm() {
    local partition="$1" job_name="$2" tool="$3"
    shift 3
    local gpus="${GPUS:-8}" gpus_per_node="${GPUS_PER_NODE:-8}" more status=0
    if [ "$gpus" -lt "$gpus_per_node" ]; then
        gpus_per_node="$gpus"
    fi
    read -r -a more <<< "${SRUN_ARGS:-}"
    PYTHONPATH="$(dirname "$HERE")${PYTHONPATH:+:$PYTHONPATH}" \
        srun --partition "$partition" \
        --job-name "$job_name" \
        --gres "gpu:$gpus_per_node" \
        --ntasks "$gpus" \
        --ntasks-per-node "$gpus_per_node" \
        --cpus-per-task "${CPUS_PER_TASK:-5}" \
        --signal "USR1@${SIGNAL_SECONDS:-120}" \
        --kill-on-bad-exit 1 \
        ${more[@]+"${more[@]}"} \
        "${PYTHON:-python}" -u "$HERE/$tool" "$@" --launcher slurm || status=$?
    if [ "$status" = 75 ] && [ "${SLURM_JOB_ID:-}" ]; then
        echo "The training saved a checkpoint and needs more time: scontrol requeue $SLURM_JOB_ID" >&2
        scontrol requeue "$SLURM_JOB_ID"
    elif [ "$status" = 75 ]; then
        echo "The training saved a checkpoint; run the same command with --resume." >&2
    fi
    return "$status"
}
