"""The state of a ComposedOptimWrapper in a checkpoint: one layout for plain, DDP and FSDP training."""
import logging
from typing import TYPE_CHECKING, Any

from mmengine.logging import print_log

from .sharding import is_dtensor, to_layout_of

if TYPE_CHECKING:
    from .composed_optim_wrapper import ComposedOptimWrapper

__all__ = ['pack_state', 'unpack_state']

# In the first group, because FSDP.optim_state_dict keeps the keys of groups and drops those at the top level.
_NUMBERS = 'composed_update'
_GRADIENT = 'accumulated'


def pack_state(wrapper: 'ComposedOptimWrapper', state_dict: dict) -> dict:
    """Add everything of ``wrapper`` to the state dict of its optimizer.

    Tensors by position go to ``state[position]['<stage>/<name>']``; numbers to the first group.

    Args:
        wrapper (ComposedOptimWrapper): Whose state.
        state_dict (dict): Of mmengine's OptimWrapper. Its containers are not shared with the optimizer.
    """
    state = {position: dict(entry) if isinstance(entry, dict) else entry
             for position, entry in state_dict['state'].items()}
    numbers: dict[str, Any] = dict(
        updates=wrapper._updates, spoiled=wrapper._spoiled, dropped=wrapper._bad_losses.dropped_in_a_row, stages={})
    for name, stage in wrapper.stages.items():
        own = stage.state_dict()
        numbers['stages'][name] = dict(type=type(stage).__name__, numbers=own['numbers'])
        for key, tensors in own['tensors'].items():
            for position, tensor in tensors.items():
                state.setdefault(position, {})[f'{name}/{key}'] = tensor
    if wrapper._inner_count % wrapper._accumulative_counts:
        for position, param in enumerate(wrapper._params()):
            if param.grad is None:
                continue
            if param.grad.shape != param.shape:
                print_log('ComposedOptimWrapper: this checkpoint is written in the middle of an accumulation whose '
                          'gradients FSDP holds unsharded; they are not saved. Let the interval of checkpoints be a '
                          'multiple of accumulative_counts.', 'current', level=logging.WARNING)
                break
            state.setdefault(position, {})[_GRADIENT] = param.grad
    packed = dict(state_dict, state=state, param_groups=[dict(group) for group in state_dict['param_groups']])
    if wrapper.loss_scaler is not None:
        numbers['loss_scaler'] = packed['loss_scaler'] = wrapper.loss_scaler.state_dict()
    packed['param_groups'][0][_NUMBERS] = numbers
    return packed


def unpack_state(wrapper: 'ComposedOptimWrapper', state_dict: dict) -> dict:
    """Give ``wrapper`` what is its own in ``state_dict``, and return the rest: the state dict of its optimizer.

    Raises:
        ValueError: If a tensor does not fit the parameter at its position.
    """
    rest = dict(state_dict, param_groups=[dict(group) for group in state_dict['param_groups']])
    numbers = next((found for found in [group.pop(_NUMBERS, None) for group in rest['param_groups']] if found), {})
    scaler_state = rest.pop('loss_scaler', None) or numbers.get('loss_scaler')
    params = wrapper._params()
    tensors: dict[str, dict[str, dict[int, Any]]] = {}
    gradients: dict[int, Any] = {}
    rest['state'] = {}
    for position, entry in state_dict['state'].items():
        own = {}
        for key, value in entry.items() if isinstance(entry, dict) else ():
            stage, slash, name = str(key).partition('/')
            if slash:
                tensors.setdefault(stage, {}).setdefault(name, {})[position] = value
            elif key == _GRADIENT:
                gradients[position] = value
            else:
                own[key] = _sharded(value, position, params)
        if own or not entry:
            rest['state'][position] = own
    _load_stages(wrapper, numbers.get('stages', {}), tensors, params)
    wrapper._updates = int(numbers.get('updates', 0))
    wrapper._spoiled = bool(numbers.get('spoiled', False))
    wrapper._bad_losses.forget(numbers.get('dropped'))
    for position, gradient in gradients.items():
        params[position].grad = to_layout_of(gradient, params[position])
    wrapper._has_loaded_gradients = bool(gradients) or wrapper._spoiled
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
            print_log(f'ComposedOptimWrapper: the checkpoint has no state of stages.{name} '
                      f'({type(stage).__name__}); the stage starts here, with the weights as they are.', 'current',
                      level=logging.WARNING)
    for name in saved:
        if name not in wrapper.stages and (saved[name]['numbers'] or name in tensors):
            print_log(f'ComposedOptimWrapper: the checkpoint has a state of stages.{name} ({saved[name]["type"]}), '
                      'which this run does not have; it is left out.', 'current', level=logging.WARNING)
