"""Save class weights sharded over processes as complete matrices, and shard them again on loading."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from mmengine.dist import all_gather_object, broadcast, get_dist_info, is_main_process
from mmengine.hooks import EMAHook, Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import Tensor, nn

from hybridcls.compat.mmengine import bare_model, resumes
from hybridcls.compat.mmengine.runner import AdaptedRunner
from hybridcls.distributed import RowShard
from hybridcls.distributed.drawn_rows import has_row_gradient
from hybridcls.distributed.sharded_parameters import gather_whole, own_rows, sharded_parameters
from hybridcls.registry import HOOKS

from ..optim import ComposedOptimWrapper
from ..optim.update.parameter_names import parameters_of, wrappers_by_name


@HOOKS.register_module()
class ShardedRowsHook(Hook):
    """Save and load class weights that are sharded over processes (``shard_classes=True`` of the margin heads).

    Before a checkpoint is written, the rows of all processes travel to the first one, a piece at a time: of the
    weights, of their moving averages (EMAHook), and of everything of the optimizer wrapper that has a number for each
    weight. So a checkpoint looks as if one process had written it alone, and can be resumed with any number of
    processes, also 1, and by a head that is not sharded; weights are cut when they are loaded, the state of the
    optimizer here. The first process needs room for one whole copy of all of it on the CPU.

    Every run that ``tools/train.py`` starts has this hook; without sharded parameters it does nothing. It also sees
    that nothing would corrupt them:

    - A model wrapper must be ``DistributedDataParallel``, and leave them alone (:func:`exclude_from_ddp`;
      HybridClassifier does that).
    - The norm of a gradient and an overflow concern all processes, which mmengine's wrappers do not know:
      ``clip_grad`` and a loss scaler need ComposedOptimWrapper.

    Raises:
        TypeError, ValueError: Before the training, if one of these is not so.
    """

    # After the hooks that look at the checkpoint, EMAHook among them.
    priority = 'LOWEST'

    def __init__(self) -> None:
        self._holders: list[nn.Module] = []
        self._states: dict[tuple[str, int, str], Tensor] = {}

    def before_run(self, runner: Runner) -> None:
        """Draw initial weights without copying the first process's rows over those of the others."""
        model = bare_model(runner.model)
        names = {entry.name for entry in sharded_parameters(model)}
        if not names or get_dist_info()[1] == 1:
            return
        if not isinstance(runner, AdaptedRunner):  # mmengine's own broadcasts the whole state dict
            raise TypeError(
                f'ShardedRowsHook: expected a Runner of hybridcls.engine.training.build_runner, got '
                f'{type(runner).__name__}, which would copy {min(names)} of the first process, a part of the classes, '
                'to all others. Drop runner_type or derive it from hybridcls.engine.runner.console.ConsoleRunner, or '
                'set shard_classes=False.'
            )
        runner.draw_weights = partial(_draw_weights, model, names)

    def before_train(self, runner: Runner) -> None:
        """Check that neither the model wrapper nor the optimizer wrapper changes the shards."""
        model, wrapped = bare_model(runner.model), is_model_wrapper(runner.model)
        for wrapper in wrappers_by_name(runner.optim_wrapper).values():
            if any(map(has_row_gradient, parameters_of(wrapper))) and not isinstance(wrapper, ComposedOptimWrapper):
                raise ValueError(
                    'ShardedRowsHook: update_drawn_only=True of the head needs an optimizer wrapper that updates rows, '
                    f"got {type(wrapper).__name__}. Use optim_wrapper=dict(type='ComposedOptimWrapper', ...), which "
                    'takes the same keys.'
                )
        names = [entry.name for entry in sharded_parameters(model)]
        if not names:
            return
        if wrapped and not isinstance(runner.model, nn.parallel.DistributedDataParallel):
            raise TypeError(
                f'ShardedRowsHook: {names[0]} is sharded over processes by its head, and '
                f'{type(runner.model).__name__} would shard or average it too. Train with '
                'MMDistributedDataParallel, or set shard_classes=False.'
            )
        averaged = [name for name in names if wrapped and name not in runner.model.parameters_to_ignore]
        if averaged:
            raise ValueError(
                f'ShardedRowsHook: {averaged[0]} is sharded over processes, and '
                f'{type(runner.model).__name__} averages it over them. Use HybridClassifier, or call '
                'hybridcls.models.modules.exclude_from_ddp(model) before the model is wrapped.'
            )
        for wrapper in wrappers_by_name(runner.optim_wrapper).values():
            clips = wrapper.clip_grad_kwargs and wrapper.grad_name == 'grad_norm'
            scales = getattr(wrapper, 'loss_scaler', None) is not None
            if (clips or scales) and not isinstance(wrapper, ComposedOptimWrapper):
                what = 'clip_grad' if clips else 'a loss scaler'
                raise ValueError(
                    f'ShardedRowsHook: {names[0]} is sharded over processes, and {what} of {type(wrapper).__name__} '
                    "would see only the part of its process. Use optim_wrapper=dict(type='ComposedOptimWrapper', "
                    '...), which takes the same keys.'
                )

    def gather_for_checkpoint(self, runner: Runner) -> None:
        """Collect the weights and the optimizer state; each process must call this."""
        self.gather_weights_for_checkpoint(runner)
        self._states = {}
        for name, wrapper, position, shard, param in _sharded_positions(runner):
            state = wrapper.state_dict()['state'].get(position, {})
            own = {
                key: value
                for key, value in state.items()
                if isinstance(value, Tensor) and value.shape == param.shape and value.dim()
            }
            known: dict[str, torch.dtype] = {}
            for others in all_gather_object({key: value.dtype for key, value in own.items()}):
                known.update(others)
            for key in sorted(known):
                rows = own.get(key)
                if rows is None:
                    rows = torch.zeros_like(param, dtype=known[key])
                whole = gather_whole(rows, shard)
                if is_main_process():
                    self._states[name, position, key] = whole

    def gather_weights_for_checkpoint(self, runner: Runner) -> None:
        """Collect the weights alone, for a checkpoint that will not be resumed."""
        models = [bare_model(runner.model)]
        models += [hook.ema_model for hook in runner.hooks if isinstance(hook, EMAHook)]
        for model in models:
            for entry in sharded_parameters(model):
                whole = gather_whole(entry.param.detach(), entry.shard)
                if is_main_process():
                    gathered = getattr(entry.module, 'gathered_rows', {})
                    vars(entry.module)['gathered_rows'] = {**gathered, entry.own_name: whole}
                    self._holders.append(entry.module)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Write the complete optimizer state to the checkpoint, which has the weights already."""
        if 'optimizer' in checkpoint:
            for (name, position, key), whole in self._states.items():
                packed = checkpoint['optimizer'][name] if name else checkpoint['optimizer']
                packed['state'][position] = {**packed['state'].get(position, {}), key: whole}
        self.release_after_checkpoint(runner)

    def release_after_checkpoint(self, runner: Runner) -> None:
        """Release what was collected."""
        for module in self._holders:
            module.__dict__.pop('gathered_rows', None)
        self._holders, self._states = [], {}

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Cut the complete optimizer state to this process's rows."""
        if not resumes(runner) or 'optimizer' not in checkpoint:
            return
        for name, _, position, shard, param in _sharded_positions(runner):
            packed = checkpoint['optimizer'][name] if name else checkpoint['optimizer']
            state = packed['state'].get(position)
            for key, value in list((state or {}).items()):
                if isinstance(value, Tensor) and value.shape == (shard.total, *param.shape[1:]):
                    state[key] = own_rows(value, shard).clone()  # the whole can be freed


def _draw_weights(model: Any, names: set[str]) -> None:
    if hasattr(model, 'init_weights'):
        model.init_weights()
        for name, value in model.state_dict().items():
            if name not in names:
                broadcast(value)


def _sharded_positions(runner: Runner) -> Iterator[tuple[str, Any, int, RowShard, nn.Parameter]]:
    """Yield the optimizer state of sharded parameters: wrapper and its name, position, shard, parameter."""
    shards = {id(entry.param): entry.shard for entry in sharded_parameters(bare_model(runner.model))}
    if not shards or get_dist_info()[1] == 1:
        return
    for name, wrapper in wrappers_by_name(runner.optim_wrapper).items():
        for position, param in enumerate(parameters_of(wrapper.optimizer)):
            if id(param) in shards:
                yield name, wrapper, position, shards[id(param)], param
