"""Compare losses, heads, optimizers, adapters and metrics with the official code of their papers.

Everything runs on this machine, and is compared with stored outputs of the official code. A deviation is the largest
difference, relative to the size of the number. The exit code is 1 if a deviation is larger than allowed.
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from typing import TYPE_CHECKING

from .device import add_device_option, hide_gpus, use_device
from .json_output import print_json, stdout_for_json, tell

if TYPE_CHECKING:
    from hybridcls.apis.fidelity import Comparison, Place

__all__ = ['HELP', 'add_arguments', 'run']

HELP = 'compare losses, heads and optimizers with the official code of their papers'


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of the subcommand."""
    parser.add_argument(
        'names',
        nargs='*',
        metavar='NAMES',
        help='names of cases, classes or functions, or parts of them; or kinds: margin, head, loss, module, adapter, '
        'stage, optimizer, metric, function; default: all',
    )
    parser.add_argument(
        '--list', action='store_true', help='list the cases and the intended deviations, without running them'
    )
    parser.add_argument(
        '--dtype', choices=('float64', 'float32'), default='float64', help='precision to compute in; default: float64'
    )
    add_device_option(parser)


def run(args: Namespace) -> int:
    """Compare; return 1 if something is farther off than allowed."""
    hide_gpus(args.device)
    with stdout_for_json(args.json):
        from hybridcls.apis.fidelity import case_text, chosen_cases, compare, comparison_text, summary

        cases = chosen_cases(args.names)
        if args.list and not args.json:
            tell('\n'.join(line for case in cases for line in case_text(case)))
            return 0
        done: list[Comparison] = []
        if not args.list:
            place, where = _place(args)

            def compared() -> 'Iterator[Comparison]':
                for case in cases:
                    done.append(compare(case, place))
                    yield done[-1]

            for line in comparison_text(compared()):
                tell(line)
            tell(summary(done, where))
    if args.json:
        rows = [case.as_dict() for case in cases] if args.list else [one.as_dict() for one in done]
        found = {} if args.list else dict(device=str(place.device), dtype=args.dtype, ok=_ok(done))
        print_json(dict(command='fidelity', **found, cases=rows))
    return int(not _ok(done))


def _ok(done: 'list[Comparison]') -> bool:
    return all(one.ok is not False for one in done)


def _place(args: Namespace) -> 'tuple[Place, str]':
    import torch
    from mmengine.device import get_device

    from hybridcls.apis.fidelity import Place

    use_device(args.device)
    kind = get_device()
    if kind == 'mps' and args.dtype == 'float64':
        raise ValueError('fidelity: expected --dtype float32 on mps, which has no float64, got float64.')
    device = torch.device(args.device if ':' in args.device else kind)
    name = f'{torch.cuda.get_device_name(device)}, TF32 off' if device.type == 'cuda' else device.type
    return Place(device, getattr(torch, args.dtype)), f'in {args.dtype} on {name} (torch {torch.__version__})'
