"""Format the parameter groups as a table for the log."""

import itertools
from collections.abc import Callable, Sequence

from torch import nn

from hybridcls.checks import counted

__all__ = ['group_table']


def group_table(
    groups: Sequence[dict], names: dict[int, str], part_of: Callable[[str], str], frozen: Sequence[nn.Parameter] = ()
) -> str:
    """Format the table.

    Args:
        groups (Sequence[dict]): Groups as an optimizer takes them.
        names (dict[int, str]): Name of each parameter, by its ``id``.
        part_of (Callable): The part of the model that a parameter is in, by its name.
        frozen (Sequence[nn.Parameter]): What is in no group.

    Returns:
        str: One line a group: number of tensors, of parameters, learning rate, weight decay, pattern of the names.

    Example:
        >>> layer = nn.Linear(3, 2)
        >>> names = {id(param): name for name, param in layer.named_parameters()}
        >>> print(group_table([dict(params=[layer.weight], lr=0.1, weight_decay=0.05)], names, lambda name: ''))
        group  tensors  parameters         lr  weight decay  names
            0        1           6        0.1          0.05  weight
        1 group, 1 tensor, 6 parameters.
    """
    lines = [f'{"group":>5}  {"tensors":>7}  {"parameters":>10}  {"lr":>9}  {"weight decay":>12}  names']
    for i, group in enumerate(groups):
        params = group['params']
        others = ', '.join(
            f'{key}={value}' for key, value in group.items() if key not in ('params', 'lr', 'weight_decay')
        )
        decay = f'{group["weight_decay"]:.4g}' if 'weight_decay' in group else '-'
        pattern = ', '.join(_patterns([names[id(param)] for param in params], part_of))
        lines.append(
            f'{i:>5}  {len(params):>7}  {_count(params):>10,}  {group["lr"]:>9.4g}  {decay:>12}  '
            f'{pattern}{f"  ({others})" if others else ""}'
        )
    everything = [param for group in groups for param in group['params']]
    total = f'{counted(len(groups), "group")}, {counted(len(everything), "tensor")}, {_count(everything):,} parameters.'
    if frozen:
        total += f' Left out: {counted(len(frozen), "tensor")}, {_count(frozen):,} parameters that need no gradient.'
    return '\n'.join([*lines, total])


def _patterns(names: Sequence[str], part_of: Callable[[str], str]) -> list[str]:
    """Return one pattern per part of the model for parameter names: their common prefix and suffix."""
    by_part: dict[str, list[str]] = {}
    for name in names:
        by_part.setdefault(part_of(name), []).append(name)
    found = []
    for own in by_part.values():
        if len(own) == 1:
            found.append(own[0])
            continue
        split = [name.split('.') for name in own]
        start = [
            words[0] for words in itertools.takewhile(lambda words: len(set(words)) == 1, zip(*split, strict=False))
        ]
        ends = {parts[-1] for parts in split}
        same_end = len(ends) == 1 and len(start) < min(map(len, split)) - 1
        found.append('.'.join([*start, '*', *(ends if same_end else ())]))
    return found


def _count(params: Sequence[nn.Parameter]) -> int:
    return sum(param.numel() for param in params)
