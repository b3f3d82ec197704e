"""Print the final config as Python; with --explain, the output of `hybridcls explain`.

python tools/print_config.py configs/digits/ce_hybrid.py --cfg-options batch_size=32
python tools/print_config.py configs/digits/ce_hybrid.py --explain model.head
"""

import argparse
import sys
from contextlib import redirect_stdout

from hybridcls.cli import explain
from hybridcls.cli.find_config import find_config
from hybridcls.command_line import run_tool


def main() -> None:
    """Print."""
    parser = argparse.ArgumentParser(description='Print the final config of a training.')
    explain.add_arguments(parser)
    parser.add_argument(
        '--explain', action='store_true', help='print each key with its origin and the class that reads it'
    )
    args = argparse.Namespace(**vars(parser.parse_args()), json=False)
    if args.explain:
        sys.exit(explain.run(args))
    args.config = find_config('print_config', args.config)
    with redirect_stdout(sys.stderr):
        cfg, note = explain.final_config(args)
    print(f'Config:\n{cfg.pretty_text}{note}')


if __name__ == '__main__':
    run_tool(main)
