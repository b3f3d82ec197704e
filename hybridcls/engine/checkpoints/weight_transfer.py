"""Transfer weights from a checkpoint by name, and report on each of them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Optional

from torch import Tensor, nn

from hybridcls.checkpoint_reading import read_weights
from hybridcls.checks import counted, listed
from hybridcls.models.weights.loaded_weights import differing_weights
from hybridcls.models.weights.timm_weights import Resized, fit_timm_weights

from .files import check_checkpoint

__all__ = [
    'TransferReport', 'WeightMismatchError', 'adapters_in', 'check_taken', 'select_weights', 'transfer_weights',
]  # fmt: skip

PARTS = ('backbone', 'neck')
MERGE_FIRST = (
    'Merge them into a new checkpoint first (python tools/adapters.py merge CONFIG CHECKPOINT OUT.pth), or give the '
    'backbone the lora_rank that they were trained with.'
)


class WeightMismatchError(ValueError):
    """The weights of a checkpoint do not match the model; the message says which keys and shapes."""


@dataclass
class TransferReport:
    """The outcome of a transfer for every weight, by name.

    Args:
        loaded (list[str]): In both, with equal shapes: taken from the checkpoint.
        new (list[str]): Only in the model: they keep their initial values.
        left_out (list[str]): Only in the checkpoint, or outside the parts that were asked for.
        mismatched (list[tuple]): In both, with other shapes: (name, shape in the checkpoint, shape in the model).
            They keep their initial values.
        resized (list[Resized]): Of those loaded, the ones that were resized to the model's image size or channels.
        state (dict[str, Tensor]): The weights to load: complete, so that it fits the model strictly.
    """

    loaded: list[str] = field(default_factory=list)
    new: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    mismatched: list[tuple[str, tuple[int, ...], tuple[int, ...]]] = field(default_factory=list)
    state: dict[str, Tensor] = field(default_factory=dict)
    resized: list[Resized] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f'{counted(len(self.loaded), "weight")} loaded{_of(self.loaded)}']
        if self.resized:
            lines.append(shown_resized(self.resized))
        if self.new:
            lines.append(f'{len(self.new)} new, with their initial values{_of(self.new)}')
        if self.left_out:
            lines.append(f'{len(self.left_out)} of the checkpoint left out{_of(self.left_out)}')
            adapters = adapters_in(self.left_out)
            if adapters:
                lines.append(
                    f'{len(adapters)} of these are LoRA adapters, without which the loaded weights are not the '
                    f'trained ones. {MERGE_FIRST}'
                )
        if self.mismatched:
            shown = (f'{name} is {old} in the checkpoint and {new} in the model' for name, old, new in self.mismatched)
            first = listed(shown, 5, '; ')
            lines.append(f'{len(self.mismatched)} of another shape, with their initial values: {first}')
        return '\n  '.join(lines)


def select_weights(
    source: Mapping[str, Tensor], target: Mapping[str, Tensor], parts: Optional[Iterable[str]] = PARTS
) -> TransferReport:
    """Match two state dicts by name and shape; nothing is changed.

    Args:
        source (Mapping[str, Tensor]): Weights of a checkpoint. A prefix ``module.`` is ignored.
        target (Mapping[str, Tensor]): Weights of the model.
        parts (Iterable[str], optional): First names of what goes over, such as ``'backbone'``. None is everything.

    Returns:
        TransferReport: What would happen to each weight, and the complete state dict that does it.

    Raises:
        WeightMismatchError: If no weight of the model is found in the checkpoint with its shape.

    Example:
        >>> import torch
        >>> old = dict([('backbone.w', torch.ones(2)), ('head.w', torch.ones(3))])
        >>> report = select_weights(old, {'backbone.w': torch.zeros(2), 'head.w': torch.zeros(4)})
        >>> report.loaded, report.new, report.left_out
        (['backbone.w'], ['head.w'], ['head.w'])
    """
    parts = None if parts is None else tuple(parts)
    source = {name.removeprefix('module.'): value for name, value in source.items()}
    report = TransferReport(state=dict(target))
    for name, value in source.items():
        is_chosen = parts is None or name.split('.', 1)[0] in parts
        if not is_chosen or name not in target:
            report.left_out.append(name)
        elif (old := _shape(value)) != (own := _shape(target[name])):
            report.mismatched.append((name, old, own))
        else:
            report.loaded.append(name)
            report.state[name] = value
    taken = {*report.loaded, *(name for name, _, _ in report.mismatched)}
    report.new = [name for name in target if name not in taken]
    if not report.loaded:
        what = 'any part' if parts is None else ' or '.join(parts)
        detail = ''
        if report.mismatched:
            name, old, new = report.mismatched[0]
            detail = f' For example {name} is {old} in the checkpoint and {new} in the model.'
        raise WeightMismatchError(
            f'None of the {len(source)} weights of the checkpoint fits the model in {what}.{detail} '
            f'The checkpoint holds {_families(source)}; the model has {_families(target)}. '
            'Was it trained with the same backbone?'
        )
    return report


def transfer_weights(model: nn.Module, checkpoint: str, parts: Optional[Iterable[str]] = PARTS) -> TransferReport:
    """Load ``parts`` of a checkpoint into ``model`` by name, in place, and report the outcome.

    Of a run with an EMAHook the averaged weights are taken: they are the checkpoint's ``state_dict``. In a config the
    same is ``load_from='...'`` with ``custom_hooks=[dict(type='TransferHook')]``.

    Raises:
        FileNotFoundError: If there is no such file.
        WeightMismatchError: If nothing fits.
    """

    check_checkpoint(checkpoint)
    source, resized = fit_timm_weights(model, read_weights(checkpoint))
    report = select_weights(source, model.state_dict(), parts)
    report.resized = [entry for entry in resized if entry.name in report.loaded]
    model.load_state_dict(report.state)
    check_taken(model, report.state, report.loaded, checkpoint)
    return report


def check_taken(model: nn.Module, weights: Mapping[str, Tensor], names: Iterable[str], path: str) -> None:
    """Raise unless the model has these weights' values.

    Raises:
        WeightMismatchError: With the first name.
    """
    different = differing_weights(model, weights, names)
    if different:
        raise WeightMismatchError(
            f'{path}: {len(different)} weights were read, but the model has other values after loading (first: '
            f'{different[0]}), because its own loading code (_load_from_state_dict, hooks) changes them.'
        )


def shown_resized(resized: Iterable[Resized]) -> str:
    """Return the line of a report about resized weights."""
    return 'resized: ' + ', '.join(f'{name} from {old} to {new}' for name, old, new in resized)


def adapters_in(names: Iterable[str]) -> list[str]:
    """Return those of the names that belong to LoRA adapters."""
    return [name for name in names if '.lora_' in name]


def _shape(value: Any) -> tuple[int, ...]:
    return tuple(getattr(value, 'shape', ()))  # an _extra_state has none


def _of(names: list[str]) -> str:
    """Return `` (backbone 120, neck 6)``: the counts by the first part of the names."""
    return f' ({_families(names)})' if names else ''


def _families(names: Iterable[str]) -> str:
    counts: dict[str, int] = {}
    for name in names:
        first = name.split('.', 1)[0]
        counts[first] = counts.get(first, 0) + 1
    return ', '.join(f'{first} {count}' for first, count in counts.items()) or 'nothing'
