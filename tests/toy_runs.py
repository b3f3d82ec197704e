"""Trainings and tests of a config, as the tools run them."""

from hybridcls.engine import (
    TrainOptions,
    build_runner,
    load_config,
    prepare_testing,
    prepare_training,
    run_training,
)
from hybridcls.engine.runner.global_instances import isolated_globals


def train(config, work_dir, resume=None, launcher='none', **options):
    """Train, and return the Runner."""
    with isolated_globals():
        cfg = prepare_training(load_config(config, options), TrainOptions(resume, launcher=launcher), str(work_dir))
        runner = build_runner(cfg)
        run_training(runner)
    return runner


def run_test(config, checkpoint, work_dir):
    """Test a checkpoint, and return the results."""
    with isolated_globals():
        return build_runner(prepare_testing(load_config(config), checkpoint, TrainOptions(), str(work_dir))).test()


def rates(runner, first=0):
    """The learning rate of each iteration, from iteration ``first`` on."""
    return runner.message_hub.get_scalar('train/lr').data[0].tolist()[first:]
