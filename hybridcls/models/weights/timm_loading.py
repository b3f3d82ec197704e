"""Load a file of weights of any origin into a timm model, completely, or fail with one sentence."""

import re
from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple, Union

from torch import Tensor, nn

from hybridcls.checkpoint_reading import CheckpointError, read_checkpoint, weights_of
from hybridcls.checks import listed
from hybridcls.compat.torch import copy_module_versions

from .timm_weights import converted_weights, names_in_config
from .torchvision_weights import differing_eps, from_torchvision
from .weight_families import guess_model

__all__ = ['check_timm_weights', 'load_timm_weights']

# What older files do not have, and BatchNorm does without.
_OPTIONAL = 'num_batches_tracked'
# Classifiers on the way, which timm takes off.
_AUXILIARY = ('AuxLogits.',)


class _Part(NamedTuple):
    """The weights in a file that belong to one model.

    Args:
        prefix (str): Before their names in the file.
        weights (dict[str, Tensor]): By their names in the model.
        others (list[str]): The names of the rest of the file.
    """

    prefix: str
    weights: dict[str, Tensor]
    others: list[str]


def load_timm_weights(
    caller: str,
    model: nn.Module,
    model_name: str,
    source: Union[str, Mapping[str, Tensor]],
    cut_off: Iterable[str] = (),
) -> str:
    """Load a file of weights into a timm model without a classifier.

    The weights may stand behind a prefix, as in the checkpoints of our runs (``backbone.vit.model.``, in those of two
    streams too); be those of another project that timm converts, or of torchvision's model of the same layers; have
    another image size, patch size or number of input channels, where timm can adapt them. A classifier is left out.

    Args:
        caller (str): Name used as the error prefix.
        model (nn.Module): The model; changed in place.
        model_name (str): Its name, for messages.
        source (str | Mapping): The file, or an address that mmengine knows; or its content.
        cut_off (Iterable[str]): Names of weights that the model had, and that may be in the file for nothing.

    Returns:
        str: A sentence: how many weights were loaded, and what of the file was left out or resized.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file cannot be read, or does not have all weights of the model and no others; tells which
            layers differ, and which model the file seems to hold.
    """
    state, report = _fitted(caller, model, model_name, source, cut_off)
    model.load_state_dict(state, strict=False)  # BatchNorm's counters may be missing
    return report


def check_timm_weights(
    caller: str,
    model: nn.Module,
    model_name: str,
    source: Union[str, Mapping[str, Tensor]],
    cut_off: Iterable[str] = (),
) -> None:
    """Raise if :func:`load_timm_weights` would; the model is not changed, and may be on the meta device."""
    _fitted(caller, model, model_name, source, cut_off)


def _fitted(
    caller: str, model: nn.Module, model_name: str, source: Union[str, Mapping[str, Tensor]], cut_off: Iterable[str]
) -> tuple[Mapping[str, Tensor], str]:
    """Return the weights of a file in the form that a model takes, and a sentence about them."""
    path = source if isinstance(source, str) else 'the given state dict'
    try:
        content = read_checkpoint(path) if isinstance(source, str) else source
        weights = weights_of(content, path)
    except CheckpointError as error:
        raise ValueError(f'{caller}: {path!r} cannot be read as a file of weights alone. {error}') from error
    if not weights:
        raise ValueError(f'{caller}: expected weights in {path!r}, got none.')
    target = model.state_dict()
    part = _part_of(caller, path, target, from_torchvision(model, weights))
    state: Mapping[str, Tensor] = part.weights
    if any(_shape(state.get(name)) != _shape(value) for name, value in target.items()):
        with suppress(Exception):  # of weights that are for another model, timm's functions may raise anything
            state = converted_weights(model, state)
    heads = {name.split('.')[0] for name in names_in_config(model, 'classifier')}
    left = [name for name in state if name not in target and _is_left(name, heads, cut_off)]
    state = OrderedDict((name, value) for name, value in state.items() if name not in left)
    different = _differences(target, state)
    if different:
        raise ValueError(
            f'{caller}: {path} does not hold the weights of {model_name}: it {different}.'
            f'{_hint(part.weights)}{guess_model(path, content, weights)} Name the model that they are of '
            '(--model NAME), or give another file.'
        )
    eps = differing_eps(model, weights)
    if eps is not None:
        raise ValueError(
            f"{caller}: {path} holds torchvision's weights, which are for BatchNorm of eps={eps}, and {model_name} has "
            f'another one. Write bn_eps={eps} beside model_name (--cfg-options model.backbone.cnn.bn_eps={eps}).'
        )
    copy_module_versions(weights, state)
    return state, _report(model_name, path, part, state, left)


def _part_of(caller: str, path: str, target: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> _Part:
    """Find the prefix of most of a model's weights in a file; no prefix if half of them have none."""
    names: Counter[str] = Counter()
    shapes: Counter[str] = Counter()
    for name, value in weights.items():
        start = 0
        while start >= 0:
            short = name[start:]
            if short in target:
                names[name[:start]] += 1
                shapes[name[:start]] += _shape(value) == _shape(target[short])
            start = name.find('.', start) + 1 or -1
    found = {prefix: (count, shapes[prefix]) for prefix, count in names.items() if 2 * count >= len(target)}
    best = [prefix for prefix, score in found.items() if score == max(found.values())]
    if len(best) > 1:
        places = ', '.join(repr(prefix) for prefix in best)
        raise ValueError(
            f'{caller}: {path} holds several models of this kind, behind {places}. Save the weights of one of them to '
            'a file of its own.'
        )
    prefix = best[0] if best else ''
    own = {name[len(prefix) :]: value for name, value in weights.items() if name.startswith(prefix)}
    return _Part(prefix, own, [name for name in weights if not name.startswith(prefix)])


def _is_left(name: str, heads: set[str], cut_off: Iterable[str]) -> bool:
    return name.split('.')[0] in heads or name in cut_off or name.startswith(_AUXILIARY)


def _differences(target: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> str:
    """Describe the layers in which a file differs from a model; empty if there are none."""
    shapes = [name for name in target if name in state and _shape(state[name]) != _shape(target[name])]
    missing = [name for name in target if name not in state and not name.endswith(_OPTIONAL)]
    strange = [name for name in state if name not in target]
    parts = []
    if missing:
        number, total = len(_layers(missing)), len(_layers(target))
        how_many = f'all of its {total}' if number == total else f'{number} of its {total}'
        parts.append(f'lacks {how_many} layers ({listed(_layers(missing), 3)})')
    if shapes:
        first = f'{shapes[0]} is {_shape(state[shapes[0]])} in the file and {_shape(target[shapes[0]])} in the model'
        parts.append(f'has another shape in {len(_layers(shapes))} of them ({first})')
    if strange:
        parts.append(f'has {len(_layers(strange))} that are not in the model ({listed(_layers(strange), 3)})')
    return ', and '.join(parts)


def _layers(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(name.rpartition('.')[0] or name for name in names))


def _hint(weights: Mapping[str, Any]) -> str:
    if any('.lora_' in name for name in weights):
        return ' It was trained with LoRA: merge its adapters first (python tools/adapters.py merge).'
    return ''


def _report(model_name: str, path: str, part: _Part, state: Mapping[str, Tensor], left: list[str]) -> str:
    lines = [f'{model_name}: {len(state)} weights from {path}']
    if part.prefix:
        lines.append(f'behind {part.prefix!r}')
    others = Counter(re.split(r'\.(?:model\.)?', name)[0] for name in part.others)
    if others:
        lines.append('without its ' + ', '.join(f'{count} of {first}' for first, count in others.items()))
    if left:
        lines.append(f'without {listed(left, 4)}')
    resized = [name for name in state if name in part.weights and _shape(part.weights[name]) != _shape(state[name])]
    if resized:
        lines.append(
            'resized: ' + listed((f'{n} from {_shape(part.weights[n])} to {_shape(state[n])}' for n in resized), 4)
        )
    return '; '.join(lines) + '.'


def _shape(value: Any) -> tuple[int, ...]:
    return tuple(getattr(value, 'shape', (-1,)))
