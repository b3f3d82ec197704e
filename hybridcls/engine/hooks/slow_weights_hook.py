"""Validate, test and save the slow weights of Lookahead."""

from typing import Optional

import torch
from mmengine.hooks import EMAHook, Hook
from mmengine.runner import Runner
from torch import Tensor

from hybridcls.compat.mmengine import bare_model, resumes
from hybridcls.compat.torch import is_dtensor
from hybridcls.registry import HOOKS

from ..optim.stages import Lookahead
from ..optim.update.parameter_names import parameters_of


@HOOKS.register_module()
class SlowWeightsHook(Hook):
    """Use the slow weights of Lookahead in validation, test and checkpoints, as its paper evaluates.

    A checkpoint then holds the slow weights in ``state_dict``, where testing and ``load_from`` look, and the fast ones
    in ``fast_state_dict``, from which a resumed run goes on, to the same bits. Buffers (BatchNorm's statistics) have no
    slow form: they are those of the fast weights. After each k-th update both weights are the same, so this makes a
    difference only where epochs are no multiple of k updates.

    While it validates, one more copy of the weights is kept.

    Raises:
        ValueError: Before training, if the optimizer wrapper has no Lookahead, if an EMAHook wants to be what is
            evaluated, or if the model is sharded.
    """

    # Like EMAHook, before the hooks that save the best checkpoint after a validation.
    priority = 'NORMAL'

    def __init__(self) -> None:
        self._fast: list[tuple[Tensor, Tensor]] = []

    def before_train(self, runner: Runner) -> None:
        """Check that there is one set of slow weights, and no other average to evaluate."""
        stage = _lookahead_of(runner)
        if stage is None:
            raise ValueError(
                'SlowWeightsHook: the optim_wrapper has no Lookahead, so there are no slow weights. Add '
                "stages=dict(lookahead=dict(type='Lookahead', k=5, alpha=0.5)) to it, or drop the hook."
            )
        if any(isinstance(hook, EMAHook) for hook in runner.hooks):
            raise ValueError(
                'SlowWeightsHook: the EMAHook evaluates and saves its average of the fast weights, and this hook the '
                'slow weights: drop one of them. (Lookahead itself works with EMAHook.)'
            )
        if any(is_dtensor(param) for param in runner.model.parameters()) or any(
            kind.__name__ == 'FullyShardedDataParallel' for kind in type(runner.model).__mro__
        ):
            raise ValueError(
                'SlowWeightsHook: the model is sharded over processes, which this hook cannot gather. '
                'Drop it, and validate after a multiple of k updates: there fast and slow are the same.'
            )

    def before_val_epoch(self, runner: Runner) -> None:
        """Swap in the slow weights."""
        with torch.no_grad():
            for param, slow in _pairs(runner):
                self._fast.append((param, param.detach().clone()))
                param.copy_(slow)

    def after_val_epoch(self, runner: Runner, metrics: Optional[dict] = None) -> None:
        """Restore the fast weights bit by bit."""
        with torch.no_grad():
            for param, fast in self._fast:
                param.copy_(fast)
        self._fast = []

    before_test_epoch = before_val_epoch
    after_test_epoch = after_val_epoch

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Save the slow weights as those of the model, with the fast ones beside them."""
        slow_of = {id(param): slow for param, slow in _pairs(runner)}
        state, fast = checkpoint['state_dict'], {}
        for name, param in bare_model(runner.model).named_parameters(remove_duplicate=False):
            if id(param) in slow_of and name in state:
                fast[name], state[name] = state[name], slow_of[id(param)].detach().cpu()
        checkpoint['fast_state_dict'] = fast

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Continue from the fast weights if the run is resumed."""
        fast = checkpoint.pop('fast_state_dict', None)
        if resumes(runner) and fast is not None:
            checkpoint['state_dict'].update(fast)


def _lookahead_of(runner: Runner) -> Optional[Lookahead]:
    stages = getattr(getattr(runner, 'optim_wrapper', None), 'stages', None) or {}
    return next((stage for stage in stages.values() if isinstance(stage, Lookahead)), None)


def _pairs(runner: Runner) -> list[tuple[Tensor, Tensor]]:
    """Return pairs of parameters and their slow weights."""
    stage = _lookahead_of(runner)
    if stage is None:
        return []
    params = parameters_of(runner.optim_wrapper.optimizer)
    return [(params[i], slow) for i, slow in stage.slow.items()]
