"""Save the LoRA adapters of a checkpoint in PEFT's format, or merge them into the weights.

    python tools/adapters.py save CONFIG CHECKPOINT FOLDER
    python tools/adapters.py merge CONFIG CHECKPOINT OUT.pth

``save`` writes a few megabytes that PEFT can read, and the other trained parameters. ``merge`` writes a checkpoint
without LoRA, for the same config with ``model.backbone.lora_rank=0``. CONFIG is that of the training.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybridcls.checks import check_file
from hybridcls.command_line import run_tool
from hybridcls.renames import warn_renamed

if TYPE_CHECKING:
    from torch import nn


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    from hybridcls.cli.config_options import ConfigOptions

    parser = argparse.ArgumentParser(description='Save or merge the LoRA adapters of a checkpoint.')
    commands = parser.add_subparsers(dest='command', required=True)
    for name, aliases, target, what in (
        ('save', [], 'folder', 'folder to write, with one folder of adapters for each stream'),
        ('merge', ['fold'], 'out', 'checkpoint to write, without adapters'),
    ):
        command = commands.add_parser(name, aliases=aliases)
        command.add_argument('config', help='config file of the training, which sets lora_rank')
        command.add_argument('checkpoint', help='checkpoint file')
        command.add_argument(target, help=what)
        command.add_argument(
            '--trust-checkpoint',
            action='store_true',
            help='allow the checkpoint to run the code that it contains; it may run any command',
        )
        command.add_argument(
            '--cfg-options', nargs='+', action=ConfigOptions, metavar='KEY=VALUE', help='set keys of the config'
        )
    return parser.parse_args(arguments)


def load(args: argparse.Namespace) -> tuple['nn.Module', dict[str, Any]]:
    """Return the model with all weights of the checkpoint, and the checkpoint's ``meta``."""
    from mmengine.registry import DefaultScope

    from hybridcls.checkpoint_reading import read_checkpoint, trust_checkpoints, weights_of
    from hybridcls.engine import WeightMismatchError, load_config
    from hybridcls.engine.config import apply
    from hybridcls.engine.config.num_classes import num_classes
    from hybridcls.models.adapters import lora_layers
    from hybridcls.plain_content import to_plain
    from hybridcls.registry import MODELS

    cfg = load_config(args.config, args.cfg_options)
    if cfg.get('model') is None:
        raise ValueError(
            f'adapters: expected a config with a model, got {args.config}. For a chain, pass the config of the phase.'
        )
    apply(cfg, num_classes, args.checkpoint)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = MODELS.build(cfg.model).eval()
    if not lora_layers(model):
        raise ValueError(
            f'adapters: expected a model with LoRA, got {args.config}. Pass the config of the training, with its '
            'lora_rank (--cfg-options model.backbone.lora_rank=8).'
        )
    if args.trust_checkpoint:
        trust_checkpoints()
    checkpoint = read_checkpoint(args.checkpoint)
    try:
        model.load_state_dict(weights_of(checkpoint, args.checkpoint))
    except RuntimeError as error:
        raise WeightMismatchError(
            f'adapters: {args.checkpoint} does not fit the model of {args.config}: {str(error)[:600]}'
        ) from error
    meta = checkpoint.get('meta')
    return model, to_plain(meta, 'meta', lambda path, value: None) if isinstance(meta, dict) else {}


def main() -> None:
    """Save or merge."""
    args = parse_args()
    if args.command == 'fold':
        warn_renamed('fold', 'merge', 'adapters')
    if '::' not in args.config:
        check_file('adapters', 'config', args.config)  # before the imports that take seconds
    check_file('adapters', 'checkpoint', args.checkpoint)
    model, meta = load(args)
    from hybridcls.models.adapters import merge_lora, save_adapters

    if args.command == 'save':
        for file in save_adapters(model, args.folder, meta):
            print(f'{file}: {file.stat().st_size / 2**20:.2f} MiB')
        return
    from io import BytesIO

    import torch

    from hybridcls.engine.checkpoints.files import atomic_write

    merged = merge_lora(model)
    data = BytesIO()
    torch.save(dict(meta=meta, state_dict=model.state_dict()), data)
    atomic_write(data.getvalue(), args.out)
    print(
        f'{args.out}: merged the adapters of {len(merged)} layers, '
        f'{Path(args.out).stat().st_size / 2**20:.2f} MiB. Use it with model.backbone.lora_rank=0.'
    )


if __name__ == '__main__':
    run_tool(main)
