# Sourced by slurm_train.sh and slurm_test.sh: start one of the Python tools under Slurm.

# run_under_slurm PARTITION JOB_NAME TOOL [arguments of the tool]
run_under_slurm() {
    local partition="$1" job_name="$2" tool="$3"
    shift 3
    local gpus="${GPUS:-8}" gpus_per_node="${GPUS_PER_NODE:-8}" more
    if [ "$gpus" -lt "$gpus_per_node" ]; then
        gpus_per_node="$gpus"
    fi
    read -r -a more <<< "${SRUN_ARGS:-}"
    PYTHONPATH="$(dirname "$HERE")${PYTHONPATH:+:$PYTHONPATH}" \
        exec srun --partition "$partition" \
        --job-name "$job_name" \
        --gres "gpu:$gpus_per_node" \
        --ntasks "$gpus" \
        --ntasks-per-node "$gpus_per_node" \
        --cpus-per-task "${CPUS_PER_TASK:-5}" \
        --kill-on-bad-exit 1 \
        ${more[@]+"${more[@]}"} \
        "${PYTHON:-python}" -u "$HERE/$tool" "$@" --launcher slurm
}
