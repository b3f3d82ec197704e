"""Check that a model and a checkpoint have the same weights."""

from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

from .weight_transfer import MERGE_FIRST, TransferReport, WeightMismatchError, adapters_in, select_weights

__all__ = ['check_every_weight', 'fits']


def check_every_weight(model: nn.Module, weights: Mapping[str, Any], path: str) -> None:
    """Raise unless a model and a checkpoint have the same weights, by name and shape.

    Modules may rename or resize weights while they are loaded (position embeddings, say): where names or shapes
    differ, torch itself is asked, and then the model holds the weights that fit.

    Args:
        model (nn.Module): The model.
        weights (Mapping[str, Tensor]): Of the checkpoint.
        path (str): Its file, for the message.

    Raises:
        WeightMismatchError: If they differ; counts the layers of each kind, and names the first.
    """
    report = select_weights(weights, model.state_dict(), parts=None)
    if not fits(report):
        missing, unexpected, mismatched = _what_loading_says(model, weights, report)
        if missing or unexpected or mismatched:
            raise WeightMismatchError(_sentence(path, missing, unexpected, mismatched))


def fits(report: TransferReport) -> bool:
    """Return whether all weights of both match. (Counts of batches may be missing, as before torch 0.4.1.)"""
    return not (_needed(report.new) or report.left_out or report.mismatched)


def _needed(names: Iterable[str]) -> list[str]:
    return [name for name in names if not name.endswith('num_batches_tracked')]


def _what_loading_says(model: nn.Module, source: Mapping, report: TransferReport) -> tuple[list, list, list]:
    try:
        result = model.load_state_dict(source, strict=False)
    except RuntimeError:  # torch's words for shapes that differ; ours name them shortly
        return _needed(report.new), report.left_out, report.mismatched
    return _needed(result.missing_keys), list(result.unexpected_keys), []


def _sentence(path: str, missing: list, unexpected: list, mismatched: list) -> str:
    parts = []
    if mismatched:
        name, old, new = mismatched[0]
        parts.append(
            f'{len(mismatched)} have another shape (first: {name}, {old} in the checkpoint, {new} in the model)'
        )
    if missing:
        parts.append(f'{len(missing)} of the model are not in it (first: {missing[0]})')
    if unexpected:
        parts.append(f'{len(unexpected)} of it are not in the model (first: {unexpected[0]})')
    if adapters_in(unexpected):
        return f'The checkpoint {path} holds LoRA adapters: {"; ".join(parts)}. {MERGE_FIRST}'
    return (
        f'The checkpoint {path} does not fit this model: {"; ".join(parts)}. Use the config it was trained with (its '
        'work dir holds a copy); to start a new training from a part of it, use load_from without resume, with '
        "custom_hooks=[dict(type='TransferHook')]."
    )
