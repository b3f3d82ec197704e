"""Decide which levers of a training (EMA, LoRA, token merging, ...) an exported model keeps."""

import os
from collections.abc import Mapping
from typing import Any, Optional

from torch import nn

from hybridcls.checkpoint_reading import read_checkpoint, weights_of
from hybridcls.engine.checkpoints.weight_match import check_every_weight
from hybridcls.models.adapters import merge_lora, remove_token_merging
from hybridcls.models.adapters.lora import lora_layers
from hybridcls.models.classifiers import EnsembleClassifier, MCDropoutClassifier
from hybridcls.models.modules import CBAM, TokenLearner
from hybridcls.models.weights.timm_weights import fit_timm_weights

from ..trained_model import TrainedModel

__all__ = ['TOKEN_MERGING', 'WEIGHTS', 'check_exportable', 'choose_weights', 'merge_adapters', 'set_token_merging']

WEIGHTS = ('test', 'ema', 'raw', 'slow', 'fast')
TOKEN_MERGING = ('keep', 'remove')
# The weights of a checkpoint, and those that a hook saved beside them.
_BESIDE = {'ema_state_dict': ('ema', 'raw'), 'fast_state_dict': ('slow', 'fast')}
_SAID = dict(
    ema='the EMA weights (averaged by EMAHook)',
    raw='the raw weights (not averaged)',
    slow='the slow weights of Lookahead',
    fast='the fast weights of Lookahead',
)


def check_exportable(trained: TrainedModel) -> list[str]:
    """Return a note for each way in which a test may differ from the exported model.

    Raises:
        ValueError: For a model whose answers one pass does not give.
    """
    model = trained.model
    if isinstance(model, MCDropoutClassifier):
        raise ValueError(
            f'export: MCDropoutClassifier predicts {model.samples} times with random dropout, which no exported model '
            "repeats. Export the network without draws: --config FILE with model=dict(type='HybridClassifier', ...), "
            'whose weights have the same names.'
        )
    notes = []
    if trained.cfg.get('tta_model') is not None:
        notes.append('Test-time augmentation (--tta of a test) is left out: the artifact sees one view of an image.')
    if (trained.cfg.get('test_cfg') or {}).get('fp16'):
        notes.append(
            'A test computes in mixed precision (test_cfg.fp16), the exported model in the precision of --dtype.'
        )
    return notes


def choose_weights(trained: TrainedModel, chosen: str) -> tuple[str, str]:
    """Load the chosen weights into the model.

    Args:
        trained (TrainedModel): With the weights that a test takes; changed in place.
        chosen (str): One of :data:`WEIGHTS`. ``'test'``: those that a test takes. ``'ema'`` and ``'raw'``: of a
            training with an EMAHook, the averaged ones and its own. ``'slow'`` and ``'fast'``: of one with Lookahead.

    Returns:
        tuple[str, str]: Which they are (``'members'`` of an ensemble, ``'adapters'`` of a folder of adapters), and a
        sentence.

    Raises:
        ValueError: If the checkpoint has no such weights.
    """
    path = trained.found.path
    single = _is_one_checkpoint(path)
    checkpoint: Mapping[str, Any] = read_checkpoint(path) if single else {}
    key = next((key for key in _BESIDE if key in checkpoint), None)
    there: tuple[str, ...] = _BESIDE[key] if key is not None else ('raw',) if single else ()
    name = there[0] if there else 'members' if isinstance(trained.model, EnsembleClassifier) else 'adapters'
    if chosen not in ('test', *there):
        have = ' and '.join(f'{one} ({_SAID[one]})' for one in there) or 'one set of weights'
        raise ValueError(f'export: expected --weights of the checkpoint, got {chosen}; {path} has {have}.')
    if key is None or chosen in ('test', there[0]):
        if key is None:
            return name, f'Weights: {"the only ones of the checkpoint" if single else f"those of the {name}"}.'
        return name, f'Weights: {_SAID[name]}, as in a test; --weights {there[1]} exports {_SAID[there[1]]}.'
    others = {name: value for name, value in weights_of(checkpoint[key], path).items() if name != 'steps'}
    weights, _ = fit_timm_weights(trained.model, {**weights_of(checkpoint, path), **others})
    check_every_weight(trained.model, weights, path)
    trained.model.load_state_dict(weights, strict=False)
    return chosen, f'Weights: {_SAID[chosen]}; a test uses {_SAID[there[0]]}.'


def set_token_merging(trained: TrainedModel, asked: Optional[str]) -> tuple[Optional[str], list[str]]:
    """Keep or remove token merging.

    Args:
        trained (TrainedModel): Merging tokens as a test of it does; changed in place.
        asked (str, optional): One of :data:`TOKEN_MERGING`; None keeps it.

    Returns:
        tuple[str | None, list[str]]: ``'kept, ratio 0.3'`` or ``'removed'``, None if there is none; and what to say.
    """
    merging: list[Any] = [module for module in trained.model.modules() if hasattr(module, 'token_merging')]
    schedules = {str(module.token_merging.schedule) for module in merging}
    if not schedules:
        return None, [] if asked is None else [f'Token merging: there is none to {asked}.']
    said = ' and '.join(sorted(schedules))
    if asked == 'remove':
        remove_token_merging(trained.model)
        return 'removed', [f'Token merging ({said}) is removed: predictions differ from a test.']
    return f'kept, {said}', [f'Token merging ({said}) is kept, as in a test; --token-merging remove takes it off.']


def merge_adapters(model: nn.Module) -> tuple[dict[str, Optional[str]], list[str]]:
    """Merge LoRA and end the sharding of classes, in place; return the state of the levers in the graph.

    Returns:
        tuple[dict[str, str | None], list[str]]: ``lora``, ``token_learner`` and ``cbam``; and what to say.
    """
    sharded: list[Any] = [module for module in model.modules() if getattr(module, 'shard_classes', False)]
    for module in sharded:
        module.shard_classes = False  # one process has all classes, and nothing to gather from others
    layers = len(lora_layers(model))
    notes = []
    if layers:
        merge_lora(model)
        notes.append(f'LoRA: {layers} adapted layers are merged, the sums taken in float32.')
    learners = sorted({module.num_tokens for module in model.modules() if isinstance(module, TokenLearner)})
    if learners:
        notes.append('TokenLearner is kept: it is a part of the embedding, which the head was trained on.')
    kept = dict(
        lora='merged' if layers else None,
        token_learner=f'kept, {" and ".join(map(str, learners))} tokens' if learners else None,
        cbam='kept' if any(isinstance(module, CBAM) for module in model.modules()) else None,
    )
    return kept, notes


def _is_one_checkpoint(path: str) -> bool:
    """Return whether the model was read from one checkpoint, not from an ensemble, a config or a folder of adapters."""
    if os.path.isdir(path):
        return path.endswith('.pth')  # DeepSpeed's
    return '://' in path or (os.path.isfile(path) and not path.endswith(('.py', '.json', '.yml', '.yaml')))
