"""The layers that write values of a config: files, nearer and further, options, code and steps."""

from typing import NamedTuple

__all__ = ['CODE', 'FILLED', 'OPTION', 'RUNNER_KEYS', 'ConfigError', 'Layer']

# What mmengine's Runner reads at the top level of a config. Every other name there is a variable.
RUNNER_KEYS = (
    'model', 'work_dir', 'train_dataloader', 'val_dataloader', 'test_dataloader', 'train_cfg', 'val_cfg', 'test_cfg',
    'auto_scale_lr', 'optim_wrapper', 'param_scheduler', 'val_evaluator', 'test_evaluator', 'default_hooks',
    'custom_hooks', 'data_preprocessor', 'load_from', 'resume', 'launcher', 'env_cfg', 'log_processor', 'log_level',
    'visualizer', 'default_scope', 'randomness', 'experiment_name', 'runner_type', 'strategy', 'custom_imports',
    'model_wrapper_cfg', 'find_unused_parameters', 'sync_bn', 'tta_model', 'tta_pipeline', 'compile',
    'activation_checkpointing', 'efficient_conv_bn_eval', 'phases', 'cfg_options',
    'data_split', 'inference',
)  # fmt: skip


class ConfigError(ValueError):
    """A mistake in a config; the message says what, where, and what would work."""


class Layer(NamedTuple):
    """A source of config values: a file, the options, code, or a step.

    Args:
        rank (int): The larger, the nearer: 0 is the file that was asked for, -1 its bases, -2 theirs.
        name (str): The file, or what stands for one.
    """

    rank: int
    name: str


OPTION = Layer(1, '--cfg-options')
CODE = Layer(2, 'code')
FILLED = Layer(-1000, 'a default')
