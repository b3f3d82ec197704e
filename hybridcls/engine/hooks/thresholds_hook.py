"""Fit the thresholds of multi-label heads on the validation data of a training."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple, Optional

import numpy as np
import torch
from mmengine.dist import broadcast, collect_results, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from hybridcls.compat.mmengine import bare_model, built_loop
from hybridcls.models.modules.class_thresholds import ClassThresholds
from hybridcls.registry import HOOKS
from hybridcls.structures import read_multi_targets

from .checkpoint_hook import CheckpointHook


class _Fitted(NamedTuple):
    """Thresholds to fit, and the keys below ``heads`` where their predictions are."""

    name: str  # of the module
    module: ClassThresholds
    keys: tuple[str, ...]


@HOOKS.register_module()
class ThresholdsHook(Hook):
    """Fit thresholds after each validation of a training, if a head requests it; every run has this hook.

    ``MultiLabelHead(thresholds='f1')`` or ``thresholds=dict(precision=0.9)`` ask. The scores are those of the
    validation that has just ended, of all processes, each image once; the metrics of that validation still saw the
    labels of the thresholds before. The best checkpoint has the new ones, and a checkpoint that was written just before
    the validation is written again with them, by hybridcls' ``CheckpointHook``. The weights of an EMA get them too.

    Raises:
        ValueError: If validation images have no labels.
    """

    def __init__(self) -> None:
        self._rows: list[tuple[np.ndarray, ...]] = []

    def before_val_epoch(self, runner: Runner) -> None:
        """Clear the scores of the previous validation."""
        self._rows = []

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Optional[Sequence] = None
    ) -> None:
        """Collect scores and labels of a batch."""
        found = _thresholds_of(runner)
        if not found or not outputs:
            return
        columns = []
        for fitted in found:
            shown = [_of_head(sample, fitted.keys) for sample in outputs]
            targets = read_multi_targets('ThresholdsHook', outputs, 'cpu', len(fitted.module.values))
            columns += [torch.stack([sample.pred_score for sample in shown]).float().cpu().numpy()]
            columns += [targets.bool().numpy()]
        self._rows += zip(*columns, strict=True)

    def after_val_epoch(self, runner: Runner, metrics: Optional[dict] = None) -> None:
        """Fit the thresholds before the best checkpoint is written."""
        found = _thresholds_of(runner)
        if not found:
            return
        dataset: Any = runner.val_dataloader.dataset
        collected = collect_results(self._rows, len(dataset), device='cpu')
        self._rows = []
        names = (getattr(dataset, 'metainfo', None) or {}).get('classes') or ()
        for number, fitted in enumerate(found):
            if is_main_process():
                scores, targets = (
                    torch.from_numpy(np.stack([row[column] for row in collected]))
                    for column in (2 * number, 2 * number + 1)
                )
                named = [*names, *map(str, range(len(names), len(fitted.module.values)))]
                runner.logger.info(f'{fitted.name}: {fitted.module.fit(scores, targets, named)}.')
            broadcast(fitted.module.values)
        for hook in runner.hooks:
            if isinstance(hook, CheckpointHook):
                hook.write_again(runner)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Copy the thresholds to the EMA weights too, whose buffers date from the last update."""
        for fitted in _thresholds_of(runner):
            for weights in (checkpoint['state_dict'], checkpoint.get('ema_state_dict') or {}):
                for key in [key for key in weights if key.removeprefix('module.') == f'{fitted.name}.values']:
                    weights[key] = fitted.module.values.detach().cpu().clone()


def _thresholds_of(runner: Runner) -> list[_Fitted]:
    """Return the thresholds that are fitted in a training."""
    if built_loop(runner, 'train') is None:
        return []
    found = []
    for name, module in bare_model(runner.model).named_modules():
        if isinstance(module, ClassThresholds) and module.rule:
            parts = name.split('.')
            keys = tuple(part for before, part in pairwise(parts) if before == 'heads')
            found.append(_Fitted(name, module, keys))
    return found


def _of_head(sample: Any, keys: Sequence[str]) -> Any:
    for key in keys:  # of heads in a MultiHead
        sample = sample.heads.get(key)
    return sample
