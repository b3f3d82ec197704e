"""The outcome of a training: checkpoints and metrics."""

import os
from pathlib import Path
from typing import Any, NamedTuple

from mmengine.hooks import CheckpointHook

__all__ = ['Outcome', 'outcome_of']


class Outcome(NamedTuple):
    """The outcome of a training.

    Args:
        checkpoints (dict[str, str]): ``'last'`` and, if one was kept, ``'best'``: paths relative to a folder.
        metrics (dict[str, float]): Of the last validation, ``val/...``; ``best/accuracy/top1`` and the like, the
            results that the best checkpoints were chosen by; ``best/score``, that of a single one.
        no_best (str): Why no best checkpoint was kept, though one was asked for: a sentence, or empty.
    """

    checkpoints: dict[str, str]
    metrics: dict[str, float]
    no_best: str


def outcome_of(runner: Any, folder: Path) -> Outcome:
    """Read the outcome from a Runner, with paths relative to ``folder``."""
    info = runner.message_hub.runtime_info
    checkpoints = {}
    for kind in ('last', 'best'):
        path = info.get(f'{kind}_ckpt')
        if path:
            checkpoints[kind] = os.path.relpath(path, folder)
    metrics = {
        name: float(buffer.current())
        for name, buffer in runner.message_hub.log_scalars.items()
        if name.startswith('val/') and 'time' not in name
    }
    if 'best_score' in info:
        metrics['best/score'] = float(info['best_score'])
    for hook in runner.hooks:
        if isinstance(hook, CheckpointHook) and hook.save_best:
            keys = hook.key_indicators
            scores = {key: info.get('best_score' if len(keys) == 1 else f'best_score_{key}') for key in keys}
            metrics.update({f'best/{key}': float(score) for key, score in scores.items() if score is not None})
    return Outcome(checkpoints, metrics, '' if 'best' in checkpoints else info.get('no_best_checkpoint', ''))
