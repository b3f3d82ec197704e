"""The state of a ComposedOptimWrapper in a checkpoint: one layout for plain, DDP and FSDP training."""

import logging
from typing import TYPE_CHECKING, Any, NamedTuple, Optional, Union

import torch
from mmengine.dist import all_gather_object, gather_object, get_rank, get_world_size
from mmengine.logging import print_log
from torch import Tensor

from hybridcls.distributed.layouts import is_dtensor, is_row_shard, to_layout_of
from hybridcls.distributed.sharded_parameters import gather_whole

from .parameter_names import parameters_of

if TYPE_CHECKING:
    from ..composed_optim_wrapper import ComposedOptimWrapper

__all__ = ['Gradients', 'LoadedState', 'gather_gradients', 'pack_state', 'restart_stale_stages', 'unpack_state']

Gradients = dict[Union[int, str], dict[int, Tensor]]  # by process, or 'whole', and position

# In the first group, because FSDP.optim_state_dict keeps the keys of groups and drops those at the top level.
_NUMBERS = 'composed_update'
_GRADIENT = 'accumulated'  # with the number of the process whose it is
_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}  # of numbers of so many bytes
_WHOLE = 'whole'  # in place of the number: the rows of all processes, of a matrix that is spread over them


class LoadedState(NamedTuple):
    """What a loaded state belongs to; asked once, before the first update that uses it.

    Attributes:
        weights (list | None): :func:`fingerprint` of the weights that it was saved beside.
        done (int | None): Micro-batches that training had done.
        is_half_done (bool): Gradients of an update that is not complete came with it.
    """

    weights: Optional[list]
    done: Optional[int]
    is_half_done: bool


def fingerprint(params: list) -> Optional[list[Optional[int]]]:
    """Return for each parameter a number that is another one when a bit of it is; None where only a part of it is here.

    Sums of integers: the same on all devices, in whichever order they are taken. None for all where this process holds
    no whole parameter.

    Example:
        >>> fingerprint([torch.zeros(2), torch.tensor([0.0, 1.0])])
        [0, 1065353216]
    """
    if any(is_dtensor(param) for param in params):
        return None
    return [
        None
        if is_row_shard(param) or param.element_size() not in _BITS
        else int(param.detach().view(_BITS[param.element_size()]).sum(dtype=torch.int64))
        for param in params
    ]


def _differ(now: list, before: list) -> bool:
    """Whether a parameter that was whole both times is another one."""
    return len(now) != len(before) or any(
        a is not None and b is not None and a != b for a, b in zip(now, before, strict=True)
    )


def restart_stale_stages(wrapper: 'ComposedOptimWrapper') -> None:
    """Forget a loaded state if training went on without the stages since it was saved, and say so.

    mmengine's OptimWrapper passes on in its checkpoints what it does not know: slow weights, say, that are older than
    the weights beside them. The weights of the model must be there.
    """
    loaded, wrapper._loaded = wrapper._loaded, None
    if loaded is None:
        return
    weights = None if wrapper._shards.is_fsdp1 else fingerprint(parameters_of(wrapper.optimizer))
    if weights is not None and loaded.weights is not None:
        is_stale = _differ(weights, loaded.weights)
    else:
        is_stale = loaded.done is not None and loaded.done != wrapper._inner_count and wrapper._max_counts >= 0
    if not is_stale:
        return
    wrapper._skip_update = False
    if loaded.is_half_done:
        wrapper.optimizer.zero_grad()
    for name, stage in wrapper.stages.items():
        if any(getattr(stage, key) for key in stage.tensor_state):
            stage.load_state_dict(wrapper.initial_state[name], parameters_of(wrapper.optimizer))
            _warn(
                f'the state of stages.{name} ({type(stage).__name__}) in the checkpoint belongs to other weights than '
                'those beside it: another optimizer wrapper has trained in between. The stage starts here, with the '
                'weights as they are.'
            )


def pack_state(wrapper: 'ComposedOptimWrapper', state_dict: dict) -> dict:
    """Add everything of ``wrapper`` to the state dict of its optimizer.

    Tensors by position go to ``state[position]['<stage>/<name>']``; numbers to the first group.

    Args:
        wrapper (ComposedOptimWrapper): Whose state.
        state_dict (dict): Of mmengine's OptimWrapper. Its containers are not shared with the optimizer.
    """
    state = {
        position: dict(entry) if isinstance(entry, dict) else entry for position, entry in state_dict['state'].items()
    }
    numbers: dict[str, Any] = dict(
        updates=wrapper._updates,
        spoiled=wrapper._skip_update,
        dropped=wrapper.nonfinite_losses.dropped_in_a_row,
        stages={},
    )
    update = wrapper._update
    if update is not None:
        numbers['count'] = wrapper._inner_count
        numbers['weights'] = None if update.shards.is_fsdp1 else fingerprint(update.params)
    elif wrapper._loaded is not None:
        numbers['count'], numbers['weights'] = wrapper._loaded.done, wrapper._loaded.weights
    for name, stage in wrapper.stages.items():
        if update is not None:
            stage.check_state(update)
        own = stage.state_dict()
        numbers['stages'][name] = dict(type=type(stage).__name__, numbers=own['numbers'])
        for key, tensors in own['tensors'].items():
            for position, tensor in tensors.items():
                state.setdefault(position, {})[f'{name}/{key}'] = tensor
    for owner, gradients in _half_accumulated(wrapper).items():
        for position, gradient in gradients.items():
            state.setdefault(position, {})[f'{_GRADIENT}_{owner}'] = gradient
    packed = dict(state_dict, state=state, param_groups=[dict(group) for group in state_dict['param_groups']])
    if wrapper.loss_scaler is not None:
        numbers['loss_scaler'] = packed['loss_scaler'] = wrapper.loss_scaler.state_dict()
    packed['param_groups'][0][_NUMBERS] = numbers
    return packed


def gather_gradients(wrapper: 'ComposedOptimWrapper') -> Optional[Gradients]:
    """Collect the half-accumulated gradients of all processes at the first; all must come here together.

    Returns:
        dict[int | str, dict[int, Tensor]] | None: By process and position, on the CPU, empty but on the first process;
        under ``'whole'`` those of matrices of which each process has some rows. None where there is nothing to collect:
        between updates, in a single process, and where processes share one gradient (FSDP).
    """
    if not _is_half_done(wrapper) or not _has_gradients_of_its_own(wrapper):
        return None
    params = parameters_of(wrapper.optimizer)
    own = {
        position: param.grad.cpu()
        for position, param in enumerate(params)
        if param.grad is not None and not is_row_shard(param)
    }
    gathered: Gradients = dict(enumerate(gather_object(own) or ()))
    sharded = [(position, param) for position, param in enumerate(params) if is_row_shard(param)]
    have_gradients = all_gather_object([param.grad is not None for _, param in sharded])
    whole = {}
    for (position, param), *have in zip(sharded, *have_gradients, strict=True):
        if any(have):
            rows = torch.zeros_like(param) if param.grad is None else param.grad
            whole[position] = gather_whole(rows, param.row_shard)
    return {**gathered, _WHOLE: whole} if get_rank() == 0 else {}


def _is_half_done(wrapper: 'ComposedOptimWrapper') -> bool:
    return bool(wrapper._inner_count % wrapper._accumulative_counts)


def _has_gradients_of_its_own(wrapper: 'ComposedOptimWrapper') -> bool:
    return get_world_size() > 1 and wrapper._shards.accumulates_alone


def _half_accumulated(wrapper: 'ComposedOptimWrapper') -> Gradients:
    """What has been accumulated for the update at hand, by process and position."""
    if not _is_half_done(wrapper):
        return {}
    if _has_gradients_of_its_own(wrapper):
        if wrapper.gathered_gradients is None:
            _warn(
                'this checkpoint is written in the middle of an accumulation, and the gradients of the other '
                "processes were not collected; none are saved. Use hybridcls' CheckpointHook, or let the interval of "
                'checkpoints be a multiple of accumulative_counts.'
            )
        return wrapper.gathered_gradients or {}
    own = {}
    for position, param in enumerate(parameters_of(wrapper.optimizer)):
        if param.grad is not None and param.grad.shape != param.shape:
            _warn(
                'this checkpoint is written in the middle of an accumulation whose gradients FSDP holds unsharded; '
                'they are not saved. Let the interval of checkpoints be a multiple of accumulative_counts.'
            )
            return {}
        if param.grad is not None:
            own[position] = param.grad
    return {0: own}


def _own_gradients(gradients: Gradients) -> dict[int, Any]:
    """Those that this process left; of another number of processes, which will be averaged again, the mean.

    Of a matrix that is spread over processes nothing is averaged: the whole is there for everybody.
    """
    whole = gradients.get(_WHOLE, {})
    by_process = [gradients[rank] for rank in gradients if rank != _WHOLE]
    if len(by_process) == get_world_size() and get_rank() in gradients:
        return {**gradients[get_rank()], **whole}
    positions = {position for of_process in by_process for position in of_process}
    mean = {
        position: sum(of_process[position] for of_process in by_process if position in of_process) / len(by_process)
        for position in positions
    }
    return {**mean, **whole}


def _warn(text: str) -> None:
    print_log(f'ComposedOptimWrapper: {text}', 'current', level=logging.WARNING)


def unpack_state(wrapper: 'ComposedOptimWrapper', state_dict: dict) -> dict:
    """Give ``wrapper`` what is its own in ``state_dict``, and return the rest: the state dict of its optimizer.

    Raises:
        ValueError: If a tensor does not fit the parameter at its position.
    """
    rest = dict(state_dict, param_groups=[dict(group) for group in state_dict['param_groups']])
    found_numbers = [group.pop(_NUMBERS, None) for group in rest['param_groups']]
    numbers: dict[str, Any] = next((found for found in found_numbers if found), {})
    scaler_state = rest.pop('loss_scaler', None) or numbers.get('loss_scaler')
    params = parameters_of(wrapper.optimizer)
    tensors: dict[str, dict[str, dict[int, Any]]] = {}
    gradients: Gradients = {}  # by process and position
    rest['state'] = {}
    for position, entry in state_dict['state'].items():
        own = {}
        for key, value in entry.items() if isinstance(entry, dict) else ():
            stage, slash, name = str(key).partition('/')
            if slash:
                tensors.setdefault(stage, {}).setdefault(name, {})[position] = value
            elif str(key).startswith(f'{_GRADIENT}_'):
                owner = key.removeprefix(f'{_GRADIENT}_')
                gradients.setdefault(owner if owner == _WHOLE else int(owner), {})[position] = value
            else:
                own[key] = _sharded(value, position, params)
        if own or not entry:
            rest['state'][position] = own
    _load_stages(wrapper, numbers.get('stages', {}), tensors, params)
    wrapper._updates = int(numbers.get('updates', 0))
    wrapper._skip_update = bool(numbers.get('spoiled', False))
    wrapper.nonfinite_losses.resume(numbers.get('dropped'))
    for position, gradient in _own_gradients(gradients).items():
        params[position].grad = to_layout_of(gradient, params[position])
    wrapper._loaded = LoadedState(numbers.get('weights'), numbers.get('count'), bool(gradients) or wrapper._skip_update)
    if wrapper.loss_scaler is not None and scaler_state:
        wrapper.loss_scaler.load_state_dict(scaler_state)
    return rest


def _sharded(value: Any, position: Any, params: list) -> Any:
    """A whole tensor of the optimizer's own state, sharded where its parameter is (FSDP2); all else as it is."""
    if position not in range(len(params)) or not is_dtensor(params[position]):
        return value
    fits = hasattr(value, 'shape') and value.shape == params[position].shape and not is_dtensor(value)
    return to_layout_of(value, params[position]) if fits else value


def _load_stages(wrapper: 'ComposedOptimWrapper', saved: dict, tensors: dict, params: list) -> None:
    for name, stage in wrapper.stages.items():
        if saved.get(name, {}).get('type') == type(stage).__name__:
            stage.load_state_dict(dict(numbers=saved[name]['numbers'], tensors=tensors.get(name, {})), params)
        elif stage.tensor_state or stage.number_state:
            _warn(
                f'the checkpoint has no state of stages.{name} ({type(stage).__name__}); the stage starts here, with '
                'the weights as they are.'
            )
    for name in saved:
        if name not in wrapper.stages and (saved[name]['numbers'] or name in tensors):
            _warn(
                f'the checkpoint has a state of stages.{name} ({saved[name]["type"]}), which this run does not have; '
                'it is left out.'
            )
