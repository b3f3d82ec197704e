"""The format of an update's state in a checkpoint: the same for plain, DDP and FSDP training."""

from typing import Any, NamedTuple

from hybridcls.compat.torch import is_dtensor
from hybridcls.distributed.layouts import to_layout_of

from .accumulated_gradients import WHOLE, Gradients

__all__ = ['UpdateState', 'pack_state', 'unpack_state']

# In the first group, because FSDP.optim_state_dict keeps the keys of groups and drops those at the top level.
_NUMBERS = 'composed_update'
_GRADIENT = 'accumulated'  # with the number of the process whose it is
# Names in checkpoints of hybridcls 0.1.
_RENAMED = dict(spoiled='skip_update', dropped='skipped_in_a_row')  # old spelling = today's


class UpdateState(NamedTuple):
    """The state of an update that a checkpoint holds beside the optimizer's.

    Args:
        numbers (dict): Plain numbers, and dicts and lists of them, by name.
        tensors (dict): Tensors shaped like parameters: by stage, name and position.
        gradients (dict): Of a half-done accumulation: by process and position.
        loss_scaler (dict): State of the loss scaler; empty without one.
    """

    numbers: dict[str, Any]
    tensors: dict[str, dict[str, dict[int, Any]]]
    gradients: Gradients
    loss_scaler: dict[str, Any]


def pack_state(state_dict: dict, own: UpdateState) -> dict:
    """Add the state of an update to the state dict of its optimizer.

    Tensors by position go to ``state[position]['<stage>/<name>']``; numbers to the first group.

    Args:
        state_dict (dict): Of mmengine's OptimWrapper; it is not changed.
        own (UpdateState): What to add.
    """
    state = {
        position: dict(entry) if isinstance(entry, dict) else entry for position, entry in state_dict['state'].items()
    }
    for stage, by_name in own.tensors.items():
        for name, tensors in by_name.items():
            for position, tensor in tensors.items():
                state.setdefault(position, {})[f'{stage}/{name}'] = tensor
    for owner, gradients in own.gradients.items():
        for position, gradient in gradients.items():
            state.setdefault(position, {})[f'{_GRADIENT}_{owner}'] = gradient
    packed = dict(state_dict, state=state, param_groups=[dict(group) for group in state_dict['param_groups']])
    numbers = dict(own.numbers)
    if own.loss_scaler:
        numbers['loss_scaler'] = packed['loss_scaler'] = own.loss_scaler
    packed['param_groups'][0][_NUMBERS] = numbers
    return packed


def unpack_state(state_dict: dict, params: list) -> tuple[dict, UpdateState]:
    """Separate the parts of a state from :func:`pack_state`, or from mmengine's wrappers.

    Args:
        state_dict (dict): It is not changed.
        params (list[nn.Parameter]): By position; the optimizer's own tensors get their sharding (FSDP2).

    Returns:
        tuple[dict, UpdateState]: The state dict of the optimizer, and the rest.
    """
    rest = dict(state_dict, state={}, param_groups=[dict(group) for group in state_dict['param_groups']])
    found_numbers = [group.pop(_NUMBERS, None) for group in rest['param_groups']]
    numbers: dict[str, Any] = next((found for found in found_numbers if found), {})
    numbers = {_RENAMED.get(name, name): value for name, value in numbers.items()}
    tensors: dict[str, dict[str, dict[int, Any]]] = {}
    gradients: Gradients = {}
    for position, entry in state_dict['state'].items():
        own = {}
        for key, value in entry.items() if isinstance(entry, dict) else ():
            stage, slash, name = str(key).partition('/')
            if slash:
                tensors.setdefault(stage, {}).setdefault(name, {})[position] = value
            elif str(key).startswith(f'{_GRADIENT}_'):
                owner = key.removeprefix(f'{_GRADIENT}_')
                gradients.setdefault(owner if owner == WHOLE else int(owner), {})[position] = value
            else:
                own[key] = _sharded(value, position, params)
        if own or not entry:
            rest['state'][position] = own
    scaler = rest.pop('loss_scaler', None) or numbers.get('loss_scaler') or {}
    return rest, UpdateState(numbers, tensors, gradients, scaler)


def _sharded(value: Any, position: Any, params: list) -> Any:
    """Shard a complete tensor of the optimizer's state as its parameter is (FSDP2); return anything else unchanged."""
    if position not in range(len(params)) or not is_dtensor(params[position]):
        return value
    fits = hasattr(value, 'shape') and value.shape == params[position].shape and not is_dtensor(value)
    return to_layout_of(value, params[position]) if fits else value
